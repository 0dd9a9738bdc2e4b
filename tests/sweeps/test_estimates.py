"""Estimates stand on what has run in the store, on such a machine and with such a model, and say so where nothing has."""

import json

import pytest
from pretended_slurm import PretendedSlurm, finish
from typer.testing import CliRunner

from slurm.profile import STAGES
from sweeps import registry
from sweeps.__main__ import app
from sweeps.commands.estimates import cost_of
from sweeps.commands.options import narrowed
from vmae.errors import ConfigError
from vmae.runs import Store
from vmae.study import make_plan

GPU = {"provenance": {"gpu": "a GPU", "num_ranks": 1}}
SMOKE = make_plan(registry.load("smoke"))


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    return PretendedSlurm(tmp_path, monkeypatch, more="gpus_per_node = 1")


def finish_all(store, made, seconds=36.0, on_gpu=STAGES):
    for id_, run in made.runs.items():
        store.run(id_).create(run)
        more = GPU if run.stage in on_gpu else {}
        finish(store, id_, compute={"evaluate_s" if run.stage == "evaluate" else "train_s": seconds}, **more)


def test_gpus_have_no_price_before_anything_has_run_on_one(slurm):
    assert "cost: unknown" in slurm("plan", "smoke").output
    refused = slurm("submit", "smoke", "--max-gpu-hours", "1000000")
    assert isinstance(refused.exception, ConfigError)
    assert "the cost is unknown" in str(refused.exception)


def test_a_part_of_a_plan_costs_what_its_runs_cost(slurm):
    """Parts by seed and by stage come to the whole; a run that two cells share counts once in each part that it is in."""
    made = make_plan(registry.load("evidence_long"))
    finish_all(slurm.store, made)
    model = cost_of(slurm.store, made, STAGES)

    def price(part):
        return sum(model.seconds(run) for run in part.runs.values())

    for parts in (
        [narrowed(made, [f"seed={seed}"]) for seed in made.sweep.seeds],
        [narrowed(made, [f"stage={stage}"]) for stage in STAGES],
    ):
        assert sum(map(price, parts)) == pytest.approx(price(made))
        assert sum(len(part.runs) for part in parts) == len(made.runs)
        assert sum(part.num_declared for part in parts) == made.num_declared
    one = narrowed(made, ["arm=K400", "arm=L1", "seed=11"])
    shares_runs = "out of domain, all"
    assert [(cell.arm, list(cell.replicates)) for cell in one.cells] == [("K400", [11]), (shares_runs, [11]), ("L1", [11])]
    assert one.sweep.seeds == (11,)
    assert narrowed(made, None) == made


def test_plan_shows_the_part_that_submit_would_take(slurm):
    said = slurm("plan", "smoke", "--only", "stage=pretrain", "--only", "seed=0").output
    assert "pretrain" in said
    assert "finetune" not in said
    assert "Did you mean 'stage'?" in str(slurm("plan", "smoke", "--only", "stages=pretrain").exception)


def test_a_cost_taken_from_the_paper_is_no_guard(slurm, monkeypatch, tmp_path):
    monkeypatch.setenv("VMAE_DATA", str(tmp_path))
    assert "V100 of the paper's Table 3" in slurm("plan", "paper_table1", "--preset", "paper").output
    refused = slurm("submit", "paper_table1", "--preset", "paper", "--max-gpu-hours", "1e12")
    assert "the cost is unknown" in str(refused.exception)


def test_finished_runs_of_another_sweep_and_the_same_model_count(slurm):
    made = make_plan(registry.load("smoke"), {"finetune.optim.epochs": 5})
    finish_all(slurm.store, made)
    (slurm.store.root / "broken").mkdir()
    (slurm.store.root / "broken" / "config.json").write_text("{")
    (slurm.store.root / "broken" / "result.json").write_text("{")
    assert "finished runs here" in slurm("plan", "smoke", "--seeds", "5").output
    assert "are estimated at 0." in str(slurm("submit", "smoke", "--seeds", "5", "--max-gpu-hours", "0.01").exception)
    assert slurm("submit", "smoke", "--seeds", "5", "--max-gpu-hours", "1").exit_code == 0


def test_stages_on_cpus_have_the_price_of_cpus_and_cost_no_gpu_hours(slurm):
    """Evaluations are often sent to nodes without GPUs; none of theirs would ever be found on one."""
    slurm.profile.write_text(slurm.profile.read_text() + "[stages.evaluate]\ngpus_per_node = 0\n")
    finish_all(slurm.store, make_plan(registry.load("smoke"), {"finetune.optim.epochs": 5}), on_gpu=("pretrain", "finetune"))
    assert "unknown" not in slurm("plan", "smoke", "--seeds", "5").output
    assert "8 runs are estimated at 0." in str(slurm("submit", "smoke", "--seeds", "5", "--max-gpu-hours", "0.01").exception)
    assert slurm("submit", "smoke", "--seeds", "5", "--max-gpu-hours", "1").exit_code == 0


def test_runs_of_another_model_or_machine_do_not_count(store):
    finish_all(store, make_plan(registry.load("smoke"), {"encoder.depth": 3}))
    assert not cost_of(store, SMOKE, STAGES).measured.keys() & cost_of(store, SMOKE, None).measured.keys()
    assert {cost_of(store, SMOKE, STAGES).seconds(run) for run in SMOKE.runs.values()} == {None}
    finish_all(store, make_plan(registry.load("smoke"), {"finetune.optim.epochs": 5}))
    assert None not in {cost_of(store, SMOKE, STAGES).seconds(run) for run in SMOKE.runs.values()}
    assert {cost_of(store, SMOKE, None).source(run) for run in SMOKE.runs.values()} == {"reference machine"}


def test_what_evaluations_took_is_in_the_sum_that_is_set_beside_the_estimate(slurm):
    finish_all(slurm.store, SMOKE)
    for id_ in SMOKE.runs:
        slurm.store.run(id_).write_submission({"executor": "slurm", "job_id": "1", "num_gpus": 1, "estimate_s": 36.0})
    runner, words = CliRunner(), ["status", "smoke", "--runs", str(slurm.store.root)]
    rows = json.loads(runner.invoke(app, [*words, "--json"]).output)
    assert {row["gpu_hours"] for row in rows} == {0.01}
    assert "12 done runs with an estimate: 0.12 GPU-hours, estimated 0.12" in runner.invoke(app, words).output


def test_a_plan_reads_a_bounded_number_of_other_runs(store, monkeypatch):
    finish_all(store, make_plan(registry.load("smoke"), {"finetune.optim.epochs": 5}))
    read = []
    monkeypatch.setattr("sweeps.commands.estimates.NUM_OTHERS", 4)
    monkeypatch.setattr(Store, "own", lambda self, id_, own=Store.own: read.append(id_) or own(self, id_))
    cost_of(store, SMOKE, STAGES)
    assert sum(read.count(id_) > 1 for id_ in set(read) - set(SMOKE.runs)) == 4
