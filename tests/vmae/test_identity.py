"""A run is its config: ids move with everything that is measured and with nothing else; golden ids are pinned."""

import json
import re
from pathlib import Path
from typing import Annotated, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps import registry
from sweeps.presets import quick
from vmae.grid import Config
from vmae.identity import IdentityName, NotIdentity, OmitWhen, Parent, Seed, canonical, cell_id, digest, payload, run_id
from vmae.recipe import load_run
from vmae.sections import ListedSet
from vmae.study import make_plan

GOLDEN = Path(__file__).parent / "golden_ids.json"


def current_ids() -> dict[str, str]:
    ids = {}
    for labels in ("motion", "appearance"):
        recipe = quick(labels)
        ids |= {f"quick-{labels}-{run.stage}": run_id(run) for run in recipe.runs()}
        ids |= {f"quick-{labels}-{run.stage}-cell": cell_id(run) for run in recipe.runs()}
        ids[f"quick-{labels}-scratch"] = run_id(recipe.replace({"pretrain": None}).runs()[-1])
    for name in registry.names():
        for cell in make_plan(registry.load(name)).cells:
            ids[f"{name}/{cell.dataset}/{cell.arm}"] = cell.cell_id
    return ids


def test_golden_ids_did_not_move(monkeypatch, tmp_path):
    """A new id makes every finished run of that config lost. To accept: PYTHONPATH=. python tests/vmae/test_identity.py"""
    monkeypatch.setenv("VMAE_DATA", str(tmp_path))  # lists that are there would count
    assert current_ids() == json.loads(GOLDEN.read_text())


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
    GOLDEN.write_text(json.dumps(current_ids(), indent=1) + "\n")
