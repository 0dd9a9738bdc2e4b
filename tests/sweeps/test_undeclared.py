"""Plans that only the store knows: of sweeps whose declaration is gone, and of the rounds of searches."""

import json

import pytest
from pretended_slurm import PretendedSlurm

from slurm import control
from sweeps import registry
from sweeps.commands.options import plan_of, stored_plan
from sweeps.searching.coordinator import claim_of
from vmae.errors import ConfigError, RunDirError

PLAN = plan_of("smoke", None, None)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A queue that holds the pre-trainings of smoke, and every call of scancel."""
    made = PretendedSlurm(tmp_path, monkeypatch)
    assert made("submit", "smoke").exit_code == 0
    made.cancelled = []
    monkeypatch.setattr(control, "cancel", made.cancelled.extend)
    return made


def forget(monkeypatch):
    """Have nobody declare smoke any more."""
    left = [name for name in registry.names() if name != "smoke"]
    monkeypatch.setattr(registry, "names", lambda: left)


def test_a_stored_plan_is_the_plan_that_was_submitted(store):
    store.write_plan("smoke", json.loads(json.dumps(PLAN.to_json())))
    read = stored_plan(store, "smoke")
    assert list(read.runs.items()) == list(PLAN.runs.items())
    assert (read.parents, read.num_declared, read.sweep.purpose) == (PLAN.parents, PLAN.num_declared, PLAN.sweep.purpose)
    assert [cell.replicates for cell in read.cells] == [cell.replicates for cell in PLAN.cells]


@pytest.mark.parametrize("options", [[], ["--all"], ["--json"]])
def test_the_status_of_a_sweep_stays_when_its_declaration_goes(cluster, monkeypatch, options):
    before = cluster("status", "smoke", *options).output
    forget(monkeypatch)
    after = cluster("status", "smoke", *options)
    assert after.exit_code == 0, after.exception
    assert after.output == before
    assert PLAN.sweep.name in before or PLAN.cells[0].arm in before


@pytest.mark.parametrize("option", [("--seeds", "1"), ("--set", "finetune.optim.epochs=5"), ("--preset", "tiny")])
def test_options_that_would_plan_anew_are_refused_for_a_stored_plan(cluster, monkeypatch, option):
    forget(monkeypatch)
    assert "only its last plan is in the store" in str(cluster("status", "smoke", *option).exception)


def test_a_name_that_nobody_knows_gets_the_near_one(cluster):
    with pytest.raises(ConfigError, match=r"no sweep 'smok'. Did you mean 'smoke'"):
        raise cluster("status", "smok").exception


def test_a_search_is_told_from_a_sweep():
    with pytest.raises(
        ConfigError, match="'lr_per_mask' is a search, not a sweep; where it stands: python -m sweeps search status"
    ):
        registry.load("lr_per_mask")


def test_cancel_knows_a_sweep_whose_declaration_is_gone(cluster, monkeypatch):
    forget(monkeypatch)
    done = cluster("cancel", "smoke", "--yes")
    assert done.exit_code == 0, done.exception
    assert set(cluster.cancelled) == set(cluster.jobs)


@pytest.mark.parametrize("what", ["toys", "toys.round-000"])
def test_cancel_knows_a_search_and_refuses_while_it_would_submit_again(cluster, monkeypatch, what):
    plan = cluster.store.read_plan("smoke")
    cluster.store.plan_file("smoke").unlink()
    cluster.store.write_plan("toys.round-000", {key: value for key, value in plan.items() if key not in ("digest", "sha256")})
    with claim_of(cluster.store, "toys").held("search toys"):
        refused = cluster("cancel", what, "--yes")
        assert isinstance(refused.exception, RunDirError)
        assert "search toys is at work" in str(refused.exception)
        assert not cluster.cancelled
    done = cluster("cancel", what, "--yes")
    assert set(cluster.cancelled) == set(cluster.jobs)
    assert f"python -m sweeps search toys --profile {cluster.profile} --runs" in done.output


def test_cancel_refuses_options_that_would_do_nothing(cluster):
    id_ = next(iter(PLAN.runs))
    assert "--set and --seeds are for a declared sweep" in str(cluster("cancel", id_, "--seeds", "1").exception)
    assert not cluster.cancelled
