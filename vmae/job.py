"""What a launcher pickles: run directories as paths, never an object graph. And what a job does from its first line to its last.

Under SLURM the job itself saves, asks to be queued again and leaves; submitit only starts it.
"""

import contextlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import vmae
from vmae import allocation
from vmae.allocation import Task
from vmae.config import ContrastConfig, FinetuneRun, PretrainRun, Run
from vmae.errors import ConfigError, DivergedError, Interrupted, ResultsError, RunDirError, Stuck, VmaeError
from vmae.files import write_atomic
from vmae.identity import cell_id, run_id
from vmae.interrupt import StopFlag, deaf_to_children, ignore_stop_signals, stop_flag
from vmae.recipe import validate
from vmae.results import Result, write_result
from vmae.runs import RunDir, Store
from vmae.runtime import RuntimeConfig

if TYPE_CHECKING:
    from vmae.train.distributed import World

INTERRUPTED = 75  # exit status of a job that saved and is not over (EX_TEMPFAIL)
STUCK = 76
LEAVE_S = 600  # that tasks wait for the one that has the job queued again
PACK_S = 60  # that runs of a pack wait for each other to save


@dataclass(frozen=True)
class RunJob:
    """Works through a chain of runs in order, each resumed or kept if it is done; under SLURM with all its tasks as ranks.

    Stops at the first that does not finish: its children need it.

    Args:
        run_dirs: paths.
        code: folder that the code must come from; None: any.
    """

    run_dirs: Sequence[str]
    code: str | None = None

    def __call__(self) -> None:
        """Run the chain in this process; under SLURM it does not return, and elsewhere not if it is interrupted."""
        # From the first line: the imports that follow take seconds, and a signal in them must not be lost.
        with stop_flag() as stop:
            if not allocation.in_job():
                try:
                    self._work(stop, None)
                except Interrupted as error:  # submitit logs an exception as a crash, and this is none
                    print(error, flush=True)
                    sys.exit(INTERRUPTED)
                return
            task = allocation.task()
            code = _exit_status(lambda: self._work(stop, task))
            if code == INTERRUPTED:
                _requeue(_meeting_place(self.run_dirs[0]), does_ask=task[0] == 0)
            _leave(code)

    def _work(self, stop: StopFlag, task: Task | None) -> None:
        _check_code(self.code)
        for path in self.run_dirs:
            work(RunDir(Path(path)), stop=stop, task=task)


@dataclass(frozen=True)
class PackedJob:
    """Several small runs in one SLURM job: its task i works through chain i, whatever becomes of the others."""

    chains: Sequence[Sequence[str]]
    code: str | None = None

    def __call__(self) -> None:
        """Work on this task's chain; does not return. If any run was interrupted, the job is queued again once all have saved."""
        with stop_flag() as stop:
            rank, size, local_rank = allocation.task()
            chain = RunJob(self.chains[rank], self.code)
            code = _exit_status(lambda: chain._work(stop, (0, 1, local_rank)))
            folder = _meeting_place(chain.run_dirs[0])
            write_atomic(folder / str(rank), str(code).encode())
            if code == INTERRUPTED:
                _requeue(folder, _is_first_interrupted(folder, rank, size))
            _leave(code)


def work(run_dir: RunDir, runtime: RuntimeConfig | None = None, stop: StopFlag | None = None, task: Task | None = None) -> Result:
    """Bring one run to its result, and record how the attempt ended if it does not get there.

    Args:
        runtime: instead of the directory's runtime.json.
        stop: the flag that stop signals set; None: one of its own.
        task: this process among those that work on the run; None: as torchrun's environment says, or alone.

    Returns:
        The result, at once if the run is done already. A diverged run has a result too, with that status.

    Raises:
        Interrupted: stopped by a signal, saved, to be resumed.
        VmaeError: anything that cannot be used as it is; the reason is also in stopped.json.
    """
    if stop is None:
        with stop_flag() as own:
            return work(run_dir, runtime, own, task)
    run = run_dir.load()
    if done := _read_result(run_dir):
        return done
    parent = _parent(Store(run_dir.path.parent), run)
    if runtime is None:
        runtime = read_runtime(run_dir)
    # Imported here so that whoever only pickles this module (submit) stays without torch.
    from vmae.train.distributed import world

    with world(runtime, task, run_dir.rendezvous) as ranks:
        if not ranks.is_main:
            return _train(run_dir, run, parent, runtime, ranks, stop)
        with run_dir.claimed():
            if done := _read_result(run_dir):  # by whoever held it until now
                return done
            try:
                result = _train(run_dir, run, parent, runtime, ranks, stop)
            except Interrupted as error:
                run_dir.stop("interrupted", str(error))
                raise
            except Exception as error:
                reason = str(error) if isinstance(error, VmaeError) else f"{type(error).__name__}: {error}"
                with deaf_to_children():  # of two loader processes that are killed the second would end the record of the first
                    run_dir.stop("failed", reason)
                    if not isinstance(error, VmaeError):
                        traceback.print_exc()
                raise
            write_result(run_dir.result, result)
            if result.status == "done":  # of a diverged run, the state before it shows what happened
                for leftover in (run_dir.checkpoint, run_dir.previous_checkpoint, run_dir.partial):
                    with contextlib.suppress(OSError):  # the run is done; what stays costs room alone
                        leftover.unlink(missing_ok=True)
            return result


def read_runtime(run_dir: RunDir) -> RuntimeConfig:
    """Return the run directory's runtime.json, or the defaults."""
    if not run_dir.runtime.exists():
        return RuntimeConfig()
    try:
        values = json.loads(run_dir.runtime.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{run_dir.runtime} is damaged: {error}; remove it, and submit again") from None
    return validate(RuntimeConfig, values, str(run_dir.runtime))


def _train(run_dir: RunDir, run: Run, parent: RunDir | None, runtime: RuntimeConfig, ranks: "World", stop: StopFlag) -> Result:
    from vmae.provenance import provenance
    from vmae.train.contrast import pretrain_contrast
    from vmae.train.evaluate import evaluate
    from vmae.train.finetune import finetune
    from vmae.train.pretrain import pretrain
    from vmae.train.training import Outcome, Place

    status: Literal["done", "diverged"] = "done"
    place = Place(run_dir, runtime, ranks, stop)
    try:
        if isinstance(run, PretrainRun) and isinstance(run.pretrain, ContrastConfig):
            outcome = pretrain_contrast(run, place)
        elif isinstance(run, PretrainRun):
            outcome = pretrain(run, place)
        elif isinstance(run, FinetuneRun):
            outcome = finetune(run, parent, place)
        else:
            assert parent is not None
            outcome = evaluate(run, parent, place)
    except DivergedError as error:
        status, outcome = "diverged", Outcome({"reason": str(error)}, {})
    facts = provenance() | {"runtime": runtime.model_dump(), "num_ranks": ranks.size, "device": str(ranks.device)}
    if ranks.device.type == "cuda":
        facts["num_sharing_gpu"] = allocation.num_sharing_gpu()
    return Result(run_dir.id, cell_id(run), run.stage, status, outcome.metrics, outcome.compute, facts)


def _read_result(run_dir: RunDir) -> Result | None:
    """Return the result if the run is done; a damaged one is set aside, said, and made again."""
    try:
        return run_dir.read_result()
    except ResultsError as error:
        print(f"warning: {error}; set aside as {run_dir.result.name}.damaged", flush=True)
        try:
            run_dir.result.replace(run_dir.result.with_suffix(".json.damaged"))
        except OSError as failure:
            raise RunDirError(f"cannot set {run_dir.result} aside: {failure.strerror}") from failure
        return None


def _parent(store: Store, run: Run) -> RunDir | None:
    """Return the parent's directory; RunDirError unless it is done (whatever a scheduler says)."""
    if isinstance(run, PretrainRun) or run.parent is None:
        return None
    parent = store.run(run_id(run.parent))
    result = parent.read_result() or parent.read_result_anew()
    if result is None or result.status != "done":
        state = result.status if result else "not done"
        raise RunDirError(f"the parent run {parent.path} ({run.parent.stage}) is {state}; its weights are needed first")
    return parent


def _check_code(code: str | None) -> None:
    """Refuse to run other code than was submitted."""
    here = Path(vmae.__file__).resolve()
    if code is not None and not here.is_relative_to(Path(code).resolve()):
        raise RunDirError(
            f"vmae was imported from {here.parent}, not from the submitted code {code}: the job was started in another "
            f"directory, or PYTHONSAFEPATH or PYTHONPATH puts another copy first"
        )


def _exit_status(do: Callable[[], None]) -> int:
    try:
        do()
    except Stuck as error:
        print(error, flush=True)
        return STUCK
    except Interrupted as error:
        print(error, flush=True)
        return INTERRUPTED
    except VmaeError as error:
        print(f"error: {error}", flush=True)
        return 1
    except Exception:  # the last line of a job: whatever it was is printed, and the status says so
        traceback.print_exc()
        return 1
    return 0


def _meeting_place(run_dir: str) -> Path:
    """Return the folder in which the tasks of this start of the job leave word for each other."""
    return Path(run_dir).parent / "jobs" / "requeues" / f"{allocation.job_id()}-{allocation.restart_count()}"


def _is_first_interrupted(folder: Path, rank: int, size: int) -> bool:
    """Wait until all runs of the pack are over or have saved; return whether this one is to queue the job again."""
    deadline = time.monotonic() + PACK_S
    while len(list(folder.glob("[0-9]*"))) < size and time.monotonic() < deadline:
        time.sleep(0.2)
    codes = {int(file.name): int(file.read_text()) for file in folder.glob("[0-9]*")}
    return rank == min(r for r, code in codes.items() if code == INTERRUPTED)


def _requeue(folder: Path, does_ask: bool) -> None:
    """Have the job queued again, or wait until the task that asks for it has been answered: the first to leave may end it."""
    asked = folder / "asked"
    if does_ask:
        allocation.requeue()
        with contextlib.suppress(RunDirError):  # without word the others wait until SLURM ends them
            write_atomic(asked, b"")
        return
    deadline = time.monotonic() + LEAVE_S
    while not asked.exists() and time.monotonic() < deadline:
        time.sleep(0.2)


def _leave(code: int) -> None:
    """End this process at once: a signal, or submitit's pickling, must not turn a finished run into a failed job."""
    ignore_stop_signals()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
