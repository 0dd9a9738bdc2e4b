"""How a run's state comes about, in sentences that each name the file or command that they stand on."""

from collections.abc import Iterator
from typing import Any

from slurm import control
from slurm.look import Look, look
from sweeps.commands.options import all_parents
from sweeps.commands.tidy import differences
from vmae.errors import ResultsError, SchedulerError
from vmae.runs import RunDir, Store


def explain(store: Store, id_: str) -> Iterator[str]:
    """Yield the lines that `why` prints."""
    parents = all_parents(store)
    seen = look(store, parents if id_ in parents else {**parents, id_: None})
    place = store.run(id_)
    run = place.load()
    yield f"{id_}: {run.stage}, {seen.states[id_]}"
    for sweep, cell in _cells(store, id_):
        yield f"  in sweep {sweep}: ablation {cell['ablation']}, arm {cell['arm']!r}, data set {cell['dataset']}"
    yield from _files(place)
    yield from _job(place, seen)
    parent = parents.get(id_)
    while parent is not None:
        yield f"  parent {parent}: {store.run(parent).load().stage}, {seen.states[parent]}"
        parent = parents.get(parent)
    for child in (child for child, of in parents.items() if of == id_):
        yield f"  child {child}: {store.run(child).load().stage}, {seen.states[child]}"
    yield from _against_baseline(store, id_)


def _files(place: RunDir) -> Iterator[str]:
    try:
        result = place.read_result()
    except ResultsError as error:
        yield f"  {error}"
        result = None
    if result is not None:
        made = result.provenance
        yield f"  {place.result.name} is there, of {made.get('at')} on {made.get('host')}: {result.status}"
        return
    yield f"  no {place.result.name}"
    if stopped := place.read_stopped():
        yield f"  {place.stopped.name}, {stopped.get('at')}: {stopped.get('state')}: {stopped.get('reason')}"
    for start in place.read_starts()[-5:]:
        job = f", job {start['job']} restart {start['restart']}" if start.get("job") else ""
        yield f"  started {start['at']} on {start['host']}{job}, at step {start['step']}"
    if place.claim.exists():
        yield f"  {place.claim.name} says that a process works on it"
    checkpoints = [path.name for path in (place.checkpoint, place.previous_checkpoint) if path.exists()]
    if checkpoints:
        yield f"  {' and '.join(checkpoints)}: the next start resumes"


def _job(place: RunDir, seen: Look) -> Iterator[str]:
    submission = place.read_submission()
    if not submission:
        yield "  never submitted"
        return
    job_id = str(submission["job_id"])
    yield f"  submitted {submission.get('at')} as {submission['executor']} job {job_id}; log: python -m sweeps logs {place.id}"
    if job := seen.jobs.get(place.id):
        waits = f", reason {job.reason}" if job.is_waiting else f", on {job.nodes}"
        yield f"  squeue: {job.state}{waits}, {job.restarts} restarts"
    elif submission["executor"] == "slurm" and not place.result.exists():
        yield f"  squeue: no such job any more; sacct: {_how_it_ended(job_id)}"
    if count := place.num_unstarted():
        yield f"  {count} jobs of it began and ended before the run could start: the log says why"


def _how_it_ended(job_id: str) -> str:
    try:
        unknown = "it has forgotten the job" if control.has_accounting() else "no accounting, so it does not say how it ended"
        return control.ended([job_id]).get(job_id, unknown)
    except SchedulerError as error:  # a database that is down keeps nothing else from being said
        return str(error)


def _cells(store: Store, id_: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for sweep in store.sweeps():
        for cell in store.read_plan(sweep)["cells"]:
            if any(id_ in replicate["runs"].values() for replicate in cell["replicates"]):
                yield sweep, cell


def _against_baseline(store: Store, id_: str) -> Iterator[str]:
    """Yield what sets the run off from the baseline arm's run of its stage, data set and seed."""
    for sweep, cell in _cells(store, id_):
        plan = store.read_plan(sweep)
        baselines = {ablation["name"]: ablation["baseline"] for ablation in plan["ablations"]}
        for other in plan["cells"]:
            same = (other["ablation"], other["dataset"]) == (cell["ablation"], cell["dataset"])
            if not same or other["arm"] != baselines.get(cell["ablation"]):  # a search's round has no ablations
                continue
            for mine, theirs in zip(cell["replicates"], other["replicates"], strict=True):
                stage = next((stage for stage, run in mine["runs"].items() if run == id_), None)
                baseline = theirs["runs"].get(stage)
                if stage and baseline and baseline != id_:
                    for line in differences(store, baseline, id_):
                        yield f"  differs from baseline {other['arm']!r}: {line}"
                    return
