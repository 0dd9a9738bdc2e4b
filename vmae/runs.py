"""`Store` and `RunDir`: the one owner of every file name on disk, of who works on a run, and of a run's true state.

<root>/<run id>/config.json          what the run is; written first, checked against the id on every opening
                runtime.json         how it is to run here (threads, workers, device); never identity
                metrics.jsonl        rows while it trains
                last.pt, previous.pt checkpoints to resume from
                model.safetensors    final weights
                reconstruction.npz   a few held-out clips: original, hidden, reconstruction (pretrain)
                predictions.csv      one row per video (evaluate)
                partial.json         videos scored so far (an interrupted evaluation)
                claim.json           the process at work, if any
                job.json             the job that was last submitted for it
                starts.jsonl         one line per start: when, where, in which job, from which step
                stopped.json         why the last attempt ended without a result
                diverged.json        step, rate and videos of the first loss that was not finite; the state before it stays
                rendezvous.json      where the ranks at work meet
                result.json          last thing written: done
                adopted.json         instead of all these: the run whose result counts as this one's
<root>/sweeps/<name>/plan.json       what was meant to run; all that a report needs
                     search.json     what a search has told so far; its journal and claim are beside it
<root>/jobs/                         the launchers' own files and logs
<root>/code/                         the code that jobs run, one snapshot per state of the checkout
"""

import contextlib
import json
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from vmae import allocation
from vmae.claim import Claim, read_json
from vmae.config import Run
from vmae.errors import ConfigError, ResultsError, RunDirError
from vmae.files import write_atomic
from vmae.identity import run_id
from vmae.recipe import load_run
from vmae.results import Result, read_result
from vmae.sealed import read_sealed, write_sealed
from vmae.starts import note_start, num_from_one_step, num_unstarted, read_starts, saved_since

State = Literal["done", "diverged", "running", "queued", "requeued", "blocked", "interrupted", "failed", "lost", "missing"]
STATES: tuple[State, ...] = get_args(State)
FINISHED: tuple[State, ...] = ("done", "diverged")  # there is a result
AT_WORK: tuple[State, ...] = ("running", "queued", "requeued")  # somebody works on it, or will


@dataclass(frozen=True)
class RunDir:
    """The directory of one run."""

    path: Path

    config = property(lambda self: self.path / "config.json")
    runtime = property(lambda self: self.path / "runtime.json")
    metrics = property(lambda self: self.path / "metrics.jsonl")
    checkpoint = property(lambda self: self.path / "last.pt")
    previous_checkpoint = property(lambda self: self.path / "previous.pt")
    weights = property(lambda self: self.path / "model.safetensors")
    reconstruction = property(lambda self: self.path / "reconstruction.npz")
    predictions = property(lambda self: self.path / "predictions.csv")
    partial = property(lambda self: self.path / "partial.json")
    claim = property(lambda self: self.path / "claim.json")
    submission = property(lambda self: self.path / "job.json")
    starts = property(lambda self: self.path / "starts.jsonl")
    stopped = property(lambda self: self.path / "stopped.json")
    diverged = property(lambda self: self.path / "diverged.json")
    rendezvous = property(lambda self: self.path / "rendezvous.json")
    result = property(lambda self: self.path / "result.json")
    adoption = property(lambda self: self.path / "adopted.json")

    @property
    def id(self) -> str:
        """The run id: the directory's name."""
        return self.path.name

    def create(self, run: Run, *, may_move: bool = False) -> None:
        """Write config.json if it is not there; RunDirError if it is there and says something else.

        Args:
            may_move: whether it is written anew where it differs in what is no identity: where a list of videos lies.
        """
        is_own = may_move and run_id(run) == self.id  # no run whose result another has adopted
        if not self.config.exists() or (self.load() != run and is_own):
            write_atomic(self.config, (run.model_dump_json(indent=1) + "\n").encode())

    def load(self, *, check: bool = True) -> Run:
        """Read the config; RunDirError if absent, unreadable or, where `check`, not hashing to the directory's name."""
        try:
            run = load_run(self.config.read_bytes(), str(self.config))
        except (FileNotFoundError, NotADirectoryError):
            raise RunDirError(f"{self.path} is not a run directory: it has no config.json") from None
        except ConfigError as error:
            raise RunDirError(f"{error}; the run directory was edited or written by another version") from None
        if (actual := run_id(run)) != self.id and check:
            raise RunDirError(
                f"{self.config} hashes to {actual}, not to its directory's name {self.id}: the config was edited, "
                f"the directory renamed, or the mathematics changed since; restore it, or remove the directory and submit again"
            )
        return run

    def read_result(self) -> Result | None:
        """Return the result, or None while the run is not done."""
        return read_result(self.result) if self.result.exists() else None

    def read_result_anew(self) -> Result | None:
        """Return the result as `read_result`, also where a network file system still shows the folder as it was seconds ago."""
        with contextlib.suppress(OSError):
            self.path.chmod(self.path.stat().st_mode & 0o7777)  # changing a folder shows it as it is
        return self.read_result()

    def finished(self) -> Result | None:
        """Return the result, None also where it is damaged: such a run is to be made again."""
        try:
            return self.read_result()
        except ResultsError:
            return None

    def read_stopped(self) -> dict[str, Any]:
        """Return why the last attempt ended ({} if it did not end badly): `state`, `reason`, `at`, `job`, `restart`."""
        return read_json(self.stopped)

    def stop(self, state: Literal["interrupted", "failed"], reason: str) -> None:
        """Record that this attempt ended without a result; not in a directory that has vanished."""
        if self.path.is_dir():
            start = {"job": allocation.job_id(), "restart": allocation.restart_count()}
            text = json.dumps({"state": state, "reason": reason, "at": now(), **start}) + "\n"
            write_atomic(self.stopped, text.encode(), make_folder=False)

    def read_submission(self) -> dict[str, Any]:
        """Return the job that was last submitted for this run ({} if none): `executor`, `job_id`, `at` and what it was given."""
        return read_json(self.submission)

    def write_submission(self, values: Mapping[str, Any]) -> None:
        """Record the job that was submitted for this run."""
        write_atomic(self.submission, (json.dumps(values) + "\n").encode())

    def note_start(self, step: int, num_ranks: int) -> None:
        """Record that an attempt starts from `step`; Stuck if this job did so twice before and got nowhere."""
        note_start(self.starts, now(), step, num_ranks, scored_more=saved_since(self.starts, self.partial))

    def read_starts(self) -> list[dict[str, Any]]:
        """Return the starts so far, oldest first; a half-written last line is left out."""
        return read_starts(self.starts)

    def fruitless_starts(self) -> int:
        """Return how many of the last starts got no further than where they began, as far as is known: what was saved counts."""
        if saved_since(self.starts, self.partial):  # evaluations start from step 0 each time
            return self.num_unstarted()
        return self.num_unstarted() + max(0, num_from_one_step(self.starts) - saved_since(self.starts, self.checkpoint))

    def num_unstarted(self) -> int:
        """Return how many of the last jobs began and ended before the run could start."""
        return num_unstarted(self.starts, self.read_submission(), Store(self.path.parent).jobs)

    def held_claim(self) -> Claim:
        """Return the claim on this run."""
        return Claim(self.claim)

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the run for this process; RunDirError if another live process holds it."""
        with self.held_claim().held(str(self.path)):
            try:
                self.stopped.unlink(missing_ok=True)
            except OSError as error:
                raise RunDirError(f"cannot delete {self.stopped}: {error.strerror}") from error
            yield

    def state(self, active: State | None = None, is_known: bool = False) -> State:
        """Return the run's own state from its files; `blocked` needs the plan.

        Args:
            active: what a launcher or scheduler says of its job: queued, requeued or running.
            is_known: whether schedulers were asked, so that a job that is not active is over.
        """
        try:
            if result := self.read_result():
                return result.status
        except ResultsError:
            return active or "lost"
        if self.held_claim().is_live(() if is_known and active != "running" else None):
            return "running"
        if active is not None:
            return active
        try:
            if (self.submission.exists() or self.starts.exists()) and (result := self.read_result_anew()):
                return result.status
        except ResultsError:
            return "lost"
        if recorded := self.read_stopped().get("state"):
            return recorded  # type: ignore[no-any-return]
        if self.checkpoint.exists() or self.previous_checkpoint.exists():
            return "interrupted"  # killed without a word: a checkpoint is there, the process is not
        return "lost" if self.starts.exists() else "missing"


@dataclass(frozen=True)
class Store:
    """All runs and sweeps below one root."""

    root: Path

    def run_ids(self) -> list[str]:
        """Return the ids of all run directories, sorted."""
        return sorted(file.parent.name for file in self.root.glob("*/config.json"))

    def run(self, id_: str) -> RunDir:
        """Return the directory of a run, or of the run whose result was adopted for it."""
        return self.own(self.adopted(id_) or id_)

    def adopted(self, id_: str) -> str | None:
        """Return the run whose result counts as that of `id_`, None as a rule."""
        source = read_json(self.own(id_).adoption).get("from")
        return str(source) if source else None

    def own(self, id_: str) -> RunDir:
        """Return the directory of the run itself, whatever it has adopted."""
        return RunDir(self.root / id_)

    def adopt(self, source: str, taker: str) -> None:
        """Let the result of `source` count as that of `taker`; RunDirError if that would hide or invent one."""
        old, new = self.own(source), self.own(taker)
        result = old.read_result()
        for is_wrong, reason in (
            (source == taker, "they are one run"),
            (result is None or result.status != "done", f"{source} is not done"),
            (self.adopted(source) is not None, f"{source} has itself adopted a result"),
            (self.is_source(taker), f"another run has adopted the result of {taker}"),
            (new.result.exists() or new.held_claim().is_live(), f"{taker} has a result of its own, or is at work on one"),
            (old.load().stage != new.load().stage, f"one is a {old.load().stage}, the other a {new.load().stage}"),
        ):
            if is_wrong:
                raise RunDirError(f"{taker} cannot adopt the result of {source}: {reason}")
        write_atomic(new.adoption, (json.dumps({"from": source, "at": now()}) + "\n").encode())

    def undo_adoption(self, taker: str) -> None:
        """Let a run stand for itself again."""
        self.own(taker).adoption.unlink()

    def is_source(self, id_: str, apart_from: Collection[str] = ()) -> bool:
        """Return whether a run, other than `apart_from`, has adopted the result of `id_`."""
        takers = (file.parent.name for file in self.root.glob("*/adopted.json"))
        return any(self.adopted(taker) == id_ for taker in takers if taker not in apart_from)

    def plan_file(self, sweep: str) -> Path:
        """Return where the plan of a sweep stands."""
        return self.root / "sweeps" / sweep / "plan.json"

    def sweeps(self) -> list[str]:
        """Return the names of the sweeps that have a plan, sorted."""
        return sorted(file.parent.name for file in self.root.glob("sweeps/*/plan.json"))

    @property
    def jobs(self) -> Path:
        """The launcher's files and logs."""
        return self.root / "jobs"

    def write_plan(self, sweep: str, plan: dict[str, Any]) -> None:
        """Write plan.json atomically."""
        write_sealed(self.plan_file(sweep), plan)

    def read_plan(self, sweep: str) -> dict[str, Any]:
        """Read plan.json; RunDirError names the command that makes it."""
        path = self.plan_file(sweep)
        if not path.exists():
            raise RunDirError(
                f"no plan of sweep {sweep!r} in {self.root}; there: {', '.join(self.sweeps()) or 'none'}. "
                f"Make it with: python -m sweeps submit {sweep}"
            )
        return read_sealed(path, f"python -m sweeps submit {sweep} writes it anew, and makes nothing twice")

    def search_file(self, search: str) -> Path:
        """Return where the summary of a search stands."""
        return self.plan_file(search).with_name("search.json")

    def searches(self) -> list[str]:
        """Return the names of the searches that have a summary, sorted."""
        return sorted(file.parent.name for file in self.root.glob("sweeps/*/search.json"))

    def read_search(self, search: str) -> dict[str, Any]:
        """Read search.json, written after each round; ResultsError names the command that begins the search."""
        path = self.search_file(search)
        if not path.exists():
            there = ", ".join(self.searches()) or "none"
            raise ResultsError(f"no search {search!r} in {self.root}; there: {there}. Begin it: python -m sweeps search {search}")
        return read_sealed(path, f"python -m sweeps search {search} writes it anew")

    def states(self, parents: Mapping[str, str | None], active: Mapping[str, State] | None = None) -> dict[str, State]:
        """Return the one true state of each run of {id: parent id or None}, parents before children.

        Args:
            active: what launchers and schedulers hold: queued, requeued or running by run id; None: they were not asked. A run
                without a result that they do not hold is `blocked` while its parent failed, diverged or is itself blocked.
        """
        states: dict[str, State] = {}
        for id_, parent in parents.items():
            held = (active or {}).get(id_)
            place = self.run(id_)
            state = place.state(held, active is not None)
            may_start = active is not None and (parent is None or states.get(parent) == "done")
            if state == "missing" and may_start and place.num_unstarted():
                state = "lost"
            is_open = held is None and state not in (*FINISHED, "running")
            is_blocked = is_open and parent is not None and states.get(parent) in ("failed", "diverged", "blocked")
            states[id_] = "blocked" if is_blocked else state
        return states


def winners_of(search: str) -> str:
    """Return the name of the sweep that `sweeps search export` declares a search's winners as."""
    return f"tuned_{search.replace('-', '_')}"


def now() -> str:
    """Return the time as records write it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
