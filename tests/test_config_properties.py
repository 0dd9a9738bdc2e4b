"""Whatever fields are set together: a configuration is refused, or it keeps its id through text and can be planned."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_knobs import ALTERNATIVES, OTHER_VALUES

from sweeps.presets import tiny
from vmae.arms import Arm
from vmae.errors import ConfigError
from vmae.identity import cell_id, run_id
from vmae.recipe import leaves, load_run
from vmae.study import Ablation, Sweep, make_plan

VALUES = {path: (value, *OTHER_VALUES.get(path, ())) for path, value in ALTERNATIVES.items()}
DOC = "Does it plan?\n\nExpected: yes.\n\nCost: none."
SETTINGS = st.lists(st.sampled_from(sorted(VALUES)), max_size=6, unique=True).flatmap(
    lambda paths: st.fixed_dictionaries({path: st.sampled_from(VALUES[path]) for path in paths})
)
BASE = tiny("motion").replace({"pretrain.optim.warmup_epochs": 0.5, "finetune.optim.warmup_epochs": 0.5})


def made(changes):
    """The runs of a recipe with these changes, or None where it is refused."""
    try:
        return BASE.replace(changes).runs()
    except ConfigError:
        return None


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(SETTINGS)
def test_a_configuration_is_refused_or_survives_its_text(changes):
    for run in made(changes) or ():
        again = load_run(run.model_dump_json(), "here")
        assert again == run
        assert run_id(again) == run_id(run)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(SETTINGS, SETTINGS)
def test_ids_are_equal_exactly_where_the_settings_are(changes, others):
    pairs = zip(made(changes) or (), made(others) or (), strict=False)
    for run, other in pairs:
        assert (run_id(run) == run_id(other)) == (leaves(run) == leaves(other))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(SETTINGS, st.sets(st.integers(0, 5), min_size=1, max_size=3))
def test_what_is_not_refused_can_be_planned(changes, seeds):
    if made(changes) is None or any(path.endswith(".seed") for path in changes):
        return  # a seed is the plan's to set
    arms = (Arm("as it is", {}), *([Arm("changed", changes)] if changes else []))
    ablation = Ablation("any", DOC, "none", arms, "as it is", ("SSV2",))
    plan = make_plan(Sweep("any", "Any.", (ablation,), {"d": BASE}, tuple(sorted(seeds)), {"d": "SSV2"}, "tiny"))
    order = list(plan.runs)
    assert all(order.index(parent) < order.index(child) for child, parent in plan.parents.items() if parent)
    for cell in plan.cells:
        assert set(cell.replicates) == seeds
        ends = {ids["evaluate"] for ids in cell.replicates.values()}
        assert len(ends) == len(seeds)
        assert {cell_id(plan.runs[id_]) for id_ in ends} == {cell.cell_id}
