"""A run is its config: ids move with everything that is measured and with nothing else; golden ids are pinned."""

import json
import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps import everything, registry
from sweeps.presets import quick
from vmae.arms import Arm
from vmae.grid import Config
from vmae.identity import IdentityName, NotIdentity, OmitWhen, Parent, Seed, canonical, cell_id, digest, payload, run_id
from vmae.recipe import load_run
from vmae.sections import ListedSet
from vmae.study import Ablation, make_plan

GOLDEN = Path(__file__).parent / "golden_ids.json"


def ids_of(names: Collection[str]) -> dict[str, list[str]]:
    """Ids of two recipes, and of all cells of some sweeps; two ablations of a sweep may have arms of one name."""
    ids: dict[str, list[str]] = {}
    for labels in ("motion", "appearance"):
        recipe = quick(labels)
        ids |= {f"quick-{labels}-{run.stage}": [run_id(run)] for run in recipe.runs()}
        ids |= {f"quick-{labels}-{run.stage}-cell": [cell_id(run)] for run in recipe.runs()}
        ids[f"quick-{labels}-scratch"] = [run_id(recipe.replace({"pretrain": None}).runs()[-1])]
    for name in names:
        for cell in make_plan(registry.load(name)).cells:
            ids.setdefault(f"{name}/{cell.dataset}/{cell.arm}", []).append(cell.cell_id)
    return ids


def pinned_sweeps() -> set[str]:
    return {key.split("/")[0] for key in json.loads(GOLDEN.read_text()) if "/" in key}


@pytest.fixture
def no_lists(monkeypatch, tmp_path):
    """Lists that are there would count."""
    monkeypatch.setenv("VMAE_DATA", str(tmp_path))


def check_golden_ids() -> None:
    golden, current = json.loads(GOLDEN.read_text()), ids_of(pinned_sweeps())
    assert {key for key, id_ in golden.items() if id_ not in current.get(key, ())} == set()
    assert {key for key in current if not key.startswith("everything/")} <= set(golden), "an arm without a golden id"


def test_golden_ids_did_not_move(no_lists):
    """A new id makes every finished run of that config lost. To accept: PYTHONPATH=. python tests/vmae/test_identity.py"""
    check_golden_ids()


def test_declarations_of_ones_own_move_no_golden_id(no_lists, monkeypatch):
    """`everything` takes up each file of ablations/, and an arm there may be named as another is."""
    names = registry.names()
    monkeypatch.setattr(registry, "names", lambda: [*names, "mine"])
    arms = (Arm("tube 0.9", {"pretrain.mask.ratio": 0.5}), Arm("hide 0.25", {"pretrain.mask.ratio": 0.25}))
    own = Ablation("own", "Q?\n\nExpected: x.\n\nCost: y.", "none", arms, "tube 0.9")
    monkeypatch.setattr(everything, "SWEEP", replace(everything.SWEEP, ablations=(*everything.SWEEP.ablations, own)))
    check_golden_ids()


def test_sweeps_whose_results_are_kept_are_pinned():
    results = GOLDEN.parents[2] / "results"
    kept = {path.stem for path in results.iterdir()} & set(registry.names())
    assert kept
    assert kept <= pinned_sweeps()


class Inner(Config):
    ratio: float = 0.5
    place: Annotated[str, NotIdentity()] = "here"


class Run1(Config):
    seed: Annotated[int, Seed()] = 0
    inner: Inner = Inner()
    steps: int = 1


class Renamed(Config):
    seed: Annotated[int, Seed()] = 0
    inner: Inner = Inner()
    num_steps: Annotated[int, IdentityName("steps")] = 1
    extra: Annotated[str, OmitWhen("off")] = "off"


class Child(Config):
    parent: Annotated[Run1 | None, Parent()] = None
    seed: Annotated[int, Seed()] = 0


def test_place_is_not_identity_and_numbers_are_typed():
    assert run_id(Run1(inner=Inner(place="there"))) == run_id(Run1())
    assert run_id(Run1(inner=Inner(ratio=1))) == run_id(Run1(inner=Inner(ratio=1.0)))
    assert run_id(Run1(inner=Inner(ratio=0.25))) != run_id(Run1())


def test_seed_is_in_the_run_not_in_the_cell_also_the_parents():
    a, b = Child(parent=Run1(seed=0)), Child(parent=Run1(seed=1))
    assert run_id(a) != run_id(b)
    assert cell_id(a) == cell_id(b)
    assert cell_id(Child(parent=None)) != cell_id(a)


def test_renamed_and_later_added_fields_keep_old_ids():
    assert run_id(Renamed(num_steps=3)) == run_id(Run1(steps=3))
    assert run_id(Renamed(extra="on")) != run_id(Run1())


def test_a_changed_parent_changes_the_child():
    assert run_id(Child(parent=Run1(steps=2))) != run_id(Child(parent=Run1(steps=1)))
    assert payload(Child(parent=Run1()))["parent"] == run_id(Run1())


def test_algo_version_moves_the_id():
    class Newer(Run1):
        algo: ClassVar[int] = 2

    assert digest(Newer()) != digest(Run1())


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()))
def test_canonical_text_ignores_order(values):
    assert canonical(values) == canonical(dict(reversed(values.items())))


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=4))
def test_canonical_text_is_ascii_without_spaces_and_says_all(values):
    """Whatever a list is called, its id is a hash of the same bytes everywhere."""
    text = canonical({"a": [1, 2], "": values})
    assert text.isascii()
    assert " " not in re.sub(r'"[^"]*"', "", text.replace(r"\\", "").replace(r"\"", ""))
    assert json.loads(text) == {"a": [1, 2], "": values}


def test_nan_has_no_identity():
    with pytest.raises(ValueError):
        canonical({"x": float("nan")})


def test_config_round_trips_through_json():
    for run in quick("motion").runs():
        assert load_run(run.model_dump_json(), "x") == run


def test_listed_sets_are_known_by_their_list_not_by_their_place():
    def of(**values):
        listed = {"name": "a", "list_sha256": "0" * 64, "num_classes": 3, "manifest": "a.csv", "counts": {"train": 9}}
        return canonical(payload(ListedSet(**(listed | values))))

    assert of(manifest="/elsewhere.csv", counts={"train": 9, "test": 1}, name="b") == of()
    assert of(list_sha256="1" * 64) != of()


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({key: ids[-1] for key, ids in ids_of(registry.names()).items()}, indent=1) + "\n")
