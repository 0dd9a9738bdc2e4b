"""A sweep has one plan in the store: what becomes of the one that a submit replaces, and who may not replace it."""

import json
from collections.abc import Mapping
from typing import Any

from slurm.look import look
from sweeps.commands.options import all_parents, root_option, typed, typed_plan
from vmae.errors import RunDirError, SchedulerError, VmaeError
from vmae.runs import AT_WORK, Store
from vmae.study import Plan


def last_plan(store: Store, name: str) -> dict[str, Any]:
    """Return the plan in the store, {} where there is none, or a damaged one, which is written anew."""
    try:
        return store.read_plan(name)
    except VmaeError:
        return {}


def check_is_stored(store: Store, made: Plan, profile_name: str) -> None:
    """Refuse to put a plan back that a later submit replaced or a prune deleted; RunDirError says which, and what to type.

    Args:
        profile_name: that the later plan is watched with.
    """
    name = made.sweep.name
    stored = last_plan(store, name)
    if not stored:
        raise RunDirError(f"the plan of {name} is gone since this command wrote it; the same command writes it anew")
    if stored != _as_stored(made):
        watch = typed_plan(stored, runs=root_option(store), profile=profile_name)
        raise RunDirError(
            f"a later submit replaced the plan of {name}, now {_asked(stored)}; that one is watched by: python -m sweeps watch "
            f"{watch}; the same command as before puts the former back"
        )


def is_stored(store: Store, made: Plan) -> bool:
    """Return whether the sweep's plan in the store is this one."""
    return last_plan(store, made.sweep.name) == _as_stored(made)


def replaced(store: Store, made: Plan) -> list[str]:
    """Return what to say of the plan that a submit replaces, if it differs: reports know the new one only."""
    name = made.sweep.name
    if not (before := last_plan(store, name)):
        return []
    old, new = _asked(before), _asked(_as_stored(made))
    left = {id_: run["parent"] for id_, run in before["runs"].items() if id_ not in made.runs}
    sentences = []
    if old != new:
        sentences.append(f"replaces the plan of {name} with {old}; now {new}")
    elif left:
        sentences.append(f"replaces the plan of {name}: {len(left)} of its runs are none of what it declares now")
    if num_finished := sum(store.run(id_).finished() is not None for id_ in left):
        sentences.append(
            f"{num_finished} finished runs of it are in no report now; they stay, and come back with the options they had"
        )
    if not left:
        return sentences
    planned = all_parents(store, without=name)
    return sentences + _at_work(store, {id_: parent for id_, parent in left.items() if id_ not in planned})


def _at_work(store: Store, left: Mapping[str, str | None]) -> list[str]:
    """Return what to say of runs at work that no plan will name, {run id: parent or None}: nobody would see them go on."""
    try:
        seen = look(store, left)
    except SchedulerError as error:
        return [f"whether runs of it are still at work cannot be told: {error}"]
    counts = [f"{n} {state}" for state in AT_WORK if (n := seen.count(state))]
    if not counts:
        return []
    cancel = f"python -m sweeps cancel {typed('--unplanned', runs=root_option(store))} cancels them"
    how = cancel if seen.jobs else "Ctrl-C where they were submitted stops them"
    return [f"{seen.count(*AT_WORK)} runs of it are still at work ({', '.join(counts)}), and no plan names them now; {how}"]


def _as_stored(made: Plan) -> dict[str, Any]:
    plan: dict[str, Any] = json.loads(json.dumps(made.to_json()))
    return plan


def _asked(plan: Mapping[str, Any]) -> str:
    """Return what `--seeds` and `--set` made of a plan, in words."""
    overrides = "".join(f", {path}={value}" for path, value in plan.get("set", {}).items())
    return f"seeds {', '.join(map(str, plan['seeds']))}{overrides}"
