"""What may go from a store of runs, and what must not: the logic below diff, prune and gc."""

import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from slurm.cluster import batches
from sweeps.commands.options import all_parents
from vmae.errors import RunDirError, near
from vmae.recipe import leaves
from vmae.results import runs_of_search
from vmae.runs import Store

STALE_S = 24 * 3600  # a temporary file of this age belongs to a dead writer


@dataclass(frozen=True)
class Waste:
    """A file or folder that may go."""

    path: Path

    @property
    def size_mb(self) -> float:
        """Megabytes on disk."""
        files = self.path.rglob("*") if self.path.is_dir() else [self.path]
        return sum(file.stat().st_size for file in files if file.is_file()) / 1e6

    def remove(self) -> None:
        """Delete it."""
        if self.path.is_dir():
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            self.path.unlink(missing_ok=True)


def find_run(store: Store, text: str) -> str:
    """Return the id of the run whose id is or begins with `text`; RunDirError if there is none or more than one."""
    ids = store.run_ids()
    found = [id_ for id_ in ids if id_.startswith(text)] if text else []
    if text in ids:
        return text
    if len(found) == 1:
        return found[0]
    if found:
        raise RunDirError(f"{text!r} begins {len(found)} run ids: {', '.join(found[:5])}{' ...' if len(found) > 5 else ''}")
    hint = near(text, ids) if 0 < len(ids) <= 20 else "; `python -m sweeps status NAME --all` shows the ids"
    raise RunDirError(f"no run {text!r} in {store.root}{hint}")


def differences(store: Store, a: str, b: str) -> list[str]:
    """Return a line per dotted field in which two runs' configs differ: `field: value of a -> value of b`."""
    old, new = (leaves(store.own(id_).load()) for id_ in (a, b))
    return [f"{field}: {old.get(field)} -> {new.get(field)}" for field in {**old, **new} if old.get(field) != new.get(field)]


def unreferenced(store: Store, without: str | None = None) -> list[str]:
    """Return the runs that no plan names, and no trial of a search: its values and its winner stand on them.

    Args:
        without: a sweep whose plan is not counted, so that its own runs are found; others that no plan names are then left out.
    """
    of_trials = (id_ for search in store.searches() for id_ in runs_of_search(store.read_search(search)))
    named = {*all_parents(store, without), *of_trials}
    if without is None:
        return [id_ for id_ in store.run_ids() if id_ not in named]
    mine = set(store.read_plan(without)["runs"])
    return [id_ for id_ in store.run_ids() if id_ in mine - named]


def drop(store: Store, ids: Collection[str], sweep: str | None) -> None:
    """Delete runs, and a sweep's plan before them; each run vanishes whole, by a rename, before its files go."""
    if sweep is not None:
        shutil.rmtree(store.plan_file(sweep).parent)
    bin_ = store.root / ".trash"
    bin_.mkdir(exist_ok=True)
    for id_ in ids:
        (store.root / id_).rename(bin_ / f"{id_}.{time.time_ns()}")
    shutil.rmtree(bin_, ignore_errors=True)


def waste(store: Store, weights: bool) -> dict[str, list[Waste]]:
    """Return what nothing needs any more, by kind."""
    results = {id_: result for id_ in store.run_ids() if (result := store.run(id_).finished())}
    finished = set(results)
    kinds = {
        "checkpoints of done runs": _checkpoints(store, [id_ for id_ in finished if results[id_].status == "done"]),
        "leftovers of dead writers": _leftovers(store),
        "code that no unfinished run was submitted with": _snapshots(store, finished),
        "job files of finished runs": _job_files(store, finished),
    }
    if weights:
        kinds["weights that no unfinished run starts from"] = _weights(store, finished)
    return {kind: entries for kind, files in kinds.items() if (entries := [Waste(file) for file in files])}


def _checkpoints(store: Store, done: Collection[str]) -> Iterator[Path]:
    for id_ in done:  # of a diverged run, the state before it shows what happened
        place = store.own(id_)
        yield from (path for path in (place.checkpoint, place.previous_checkpoint, place.partial) if path.exists())


def _leftovers(store: Store) -> Iterator[Path]:
    for pattern in ("*/.*.tmp", "jobs/.*.tmp", "code/.*.tmp", ".trash"):
        yield from (path for path in store.root.glob(pattern) if time.time() - path.stat().st_mtime > STALE_S)


def _snapshots(store: Store, finished: Collection[str]) -> Iterator[Path]:
    needed = {store.own(id_).read_submission().get("code") for id_ in store.run_ids() if id_ not in finished}
    # A submit that died before its last word has jobs in the queue that no run knows yet.
    needed |= {record.get("facts", {}).get("code") for record in batches(store).values()}
    yield from (folder for folder in (store.root / "code").glob("[!.]*") if folder.name not in needed)


def _job_files(store: Store, finished: Collection[str]) -> Iterator[Path]:
    submissions = {id_: str(store.own(id_).read_submission().get("job_id")) for id_ in store.run_ids()}
    needed = {job for id_, job in submissions.items() if id_ not in finished}
    needed |= {job.partition("_")[0] for job in needed}
    known = set(submissions.values()) | {job.partition("_")[0] for job in submissions.values()}
    for suffix in ("_submitted.pkl", "_submission.sh"):
        for file in store.jobs.glob(f"*{suffix}"):
            job = file.name.removesuffix(suffix)
            if job in known and job not in needed:
                yield file


def _weights(store: Store, finished: set[str]) -> Iterator[Path]:
    """Yield weights of finished runs with children, all of which are finished; those that nothing was trained from stay."""
    children: dict[str, list[str]] = {}
    for id_, parent in all_parents(store).items():
        if parent is not None:
            children.setdefault(parent, []).append(id_)
    for id_ in finished:
        path = store.own(id_).weights
        is_over = bool(children.get(id_)) and finished.issuperset(children[id_])
        if is_over and path.exists() and not store.is_source(id_):
            yield path
