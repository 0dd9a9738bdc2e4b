"""The one callable that a launcher pickles: run directories as paths, never an object graph."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vmae.config import EvaluateRun, FinetuneRun, PretrainRun
from vmae.errors import DivergedError, Interrupted, RunDirError, VmaeError
from vmae.identity import cell_id, run_id
from vmae.results import Result, write_result
from vmae.runs import RunDir, Store
from vmae.runtime import RuntimeConfig


@dataclass(frozen=True)
class RunJob:
    """Works through a chain of runs in order, each resumed or kept if it is done.

    Stops at the first that does not finish: its children need it.
    """

    run_dirs: Sequence[str]

    def __call__(self) -> None:
        """Run the chain in this process."""
        for path in self.run_dirs:
            work(RunDir(Path(path)))


def work(run_dir: RunDir, runtime: RuntimeConfig | None = None) -> Result:
    """Bring one run to its result, and record how the attempt ended if it does not get there.

    Args:
        runtime: instead of the directory's runtime.json.

    Returns:
        The result, at once if the run is done already. A diverged run has a result too, with that status.

    Raises:
        Interrupted: stopped by a signal, saved, to be resumed.
        VmaeError: anything that cannot be used as it is; the reason is also in stopped.json.
    """
    run = run_dir.load()
    if done := run_dir.read_result():
        return done
    if runtime is None:
        runtime = read_runtime(run_dir)
    # Imported here so that whoever only pickles this module (submit) stays without torch.
    from vmae.train.distributed import world

    with world(runtime) as ranks:
        if not ranks.is_main:
            return _train(run_dir, run, runtime, ranks)
        with run_dir.claimed():
            try:
                result = _train(run_dir, run, runtime, ranks)
            except Interrupted as stop:
                run_dir.stop("interrupted", str(stop))
                raise
            except Exception as error:
                reason = str(error) if isinstance(error, VmaeError) else f"{type(error).__name__}: {error}"
                run_dir.stop("failed", reason)
                if not isinstance(error, VmaeError):
                    traceback.print_exc()
                raise
            write_result(run_dir.result, result)
            run_dir.checkpoint.unlink(missing_ok=True)
            run_dir.previous_checkpoint.unlink(missing_ok=True)
            return result


def read_runtime(run_dir: RunDir) -> RuntimeConfig:
    """Return the run directory's runtime.json, or the defaults."""
    if not run_dir.runtime.exists():
        return RuntimeConfig()
    return RuntimeConfig.model_validate_json(run_dir.runtime.read_text(encoding="utf-8"))


def _train(run_dir: RunDir, run: PretrainRun | FinetuneRun | EvaluateRun, runtime: RuntimeConfig, ranks: object) -> Result:
    from vmae.interrupt import stop_flag
    from vmae.provenance import provenance
    from vmae.train.distributed import World
    from vmae.train.evaluate import evaluate
    from vmae.train.finetune import finetune
    from vmae.train.pretrain import pretrain
    from vmae.train.training import Outcome, Place

    assert isinstance(ranks, World)
    store = Store(run_dir.path.parent)
    status = "done"
    with stop_flag() as stop:
        place = Place(run_dir, runtime, ranks, stop)
        try:
            if isinstance(run, PretrainRun):
                outcome = pretrain(run, place)
            elif isinstance(run, FinetuneRun):
                outcome = finetune(run, _parent(store, run.parent) if run.parent else None, place)
            else:
                outcome = evaluate(run, _parent(store, run.parent), place)
        except DivergedError as error:
            status, outcome = "diverged", Outcome({"reason": str(error)}, {})
    facts = provenance() | {"runtime": runtime.model_dump(), "num_ranks": ranks.size, "device": str(ranks.device)}
    return Result(run_dir.id, cell_id(run), run.stage, status, outcome.metrics, outcome.compute, facts)  # type: ignore[arg-type]


def _parent(store: Store, run: PretrainRun | FinetuneRun) -> RunDir:
    """Return the parent's directory; RunDirError unless it is done (whatever a scheduler says)."""
    parent = store.run(run_id(run))
    result = parent.read_result()
    if result is None or result.status != "done":
        state = result.status if result else "not done"
        raise RunDirError(f"the parent run {parent.path} ({run.stage}) is {state}; its weights are needed first")
    return parent
