"""What a plan's runs will take, by the speed of what has run in the store."""

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from vmae.config import Run
from vmae.cost import NOTHING, REFERENCE, V100, CostModel, fit, shape_of
from vmae.errors import VmaeError
from vmae.results import Result
from vmae.runs import Store
from vmae.study import Plan

NUM_OTHERS = 300  # runs of other plans that are read, 0.7 ms each: planning takes no time that is felt


def cost_of(store: Store, made: Plan, on_gpu: Collection[str] | None) -> CostModel:
    """Return the cost model for a place: of finished runs in the store, else of the reference machine of that kind.

    Without finished runs, GPUs have a reference at preset paper alone: it is of the paper's model.

    Args:
        on_gpu: the stages that run on GPUs on a cluster, None for this machine.
    """
    reference = REFERENCE if on_gpu is None else V100 if on_gpu and made.sweep.preset == "paper" else NOTHING
    results = ((run, store.run(id_).finished()) for id_, run in made.runs.items())
    own = fit(((run, result) for run, result in results if result), reference, on_gpu or ())
    if own.measured.keys() >= {shape_of(run) for run in made.runs.values()}:
        return own
    others = fit(_newest_of_others(store, made), reference, on_gpu or ())
    return replace(own, measured={**others.measured, **own.measured})


def _newest_of_others(store: Store, made: Plan) -> Iterator[tuple[Run, Result]]:
    at = {id_: _written(store.own(id_).result) for id_ in store.run_ids() if id_ not in made.runs}
    for id_ in sorted((id_ for id_, time in at.items() if time), key=lambda id_: -at[id_])[:NUM_OTHERS]:
        with contextlib.suppress(VmaeError):  # a damaged run of somebody's is no reason not to plan
            run, result = store.own(id_).load(), store.own(id_).finished()
            if result:
                yield run, result


def _written(file: Path) -> float:
    return file.stat().st_mtime if file.exists() else 0.0
