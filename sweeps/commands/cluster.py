"""Handing a sweep to SLURM: what is asked for, what it would cost, and the reconcile that submit and watch share."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from slurm import control
from slurm.check import check_profile
from slurm.cluster import Batch, SlurmLauncher, adopt_orphans, submitters
from slurm.look import Look, look, submit_lock
from slurm.profile import SlurmProfile
from slurm.snapshot import take_snapshot
from sweeps.commands.estimates import cost_of
from sweeps.commands.options import parents_of
from sweeps.commands.pending import prepare_runs, set_results_aside, take_up
from sweeps.commands.replaced import check_is_stored
from sweeps.commands.show import console
from vmae.claim import Claim
from vmae.config import STAGES
from vmae.cost import shape_of
from vmae.errors import ConfigError, SchedulerError
from vmae.runs import AT_WORK, Store
from vmae.study import Plan


@dataclass(frozen=True)
class Order:
    """What is asked of SLURM.

    Attributes:
        chosen: runs that may be submitted.
        retried: of RETRIED, what is taken up besides missing and interrupted.
        see, rest: the commands that show where the runs stand, and that submit what the queue does not take yet.
        pack: runs per job.
        max_running: elements of an array at a time; None: all.
        max_gpu_hours: the estimate above which nothing is submitted; None: no limit.
        is_watched: as of `pending_of`.
        has_plan: whether the plan was written by an earlier submit of this command: it is not put over another one then.
    """

    profile_name: str
    profile: SlurmProfile
    chosen: set[str]
    retried: frozenset[str]
    see: str
    rest: str
    pack: int = 1
    max_running: int | None = None
    max_gpu_hours: float | None = None
    is_watched: bool = False
    has_plan: bool = False

    def launcher(self, store: Store, made: Plan, code: Path) -> SlurmLauncher:
        """Return the launcher for a plan, whose jobs start in the snapshot `code`."""
        cost = cost_of(store, made, self.profile.gpu_stages)
        return SlurmLauncher(
            store=store,
            profile=self.profile,
            profile_name=self.profile_name,
            runs=made.runs,
            parents=parents_of(made),
            code=code,
            pack=self.pack,
            max_running=self.max_running,
            estimates={id_: cost.seconds(run) for id_, run in made.runs.items()},
        )

    def check(self, store: Store, made: Plan, pending: list[str]) -> None:
        """Refuse what the cluster cannot run or what costs more than allowed."""
        check_profile(self.profile, self.profile_name, [made.runs[id_] for id_ in pending], self.pack, store.root)
        if self.max_gpu_hours is None:
            return
        cost = cost_of(store, made, self.profile.gpu_stages)
        counted = self.profile.gpu_stages or STAGES  # on CPUs alone it is hours of cores
        runs = [made.runs[id_] for id_ in pending if made.runs[id_].stage in counted]
        if not cost.measured.keys() >= {shape_of(run) for run in runs}:
            raise ConfigError(
                f"--max-gpu-hours {self.max_gpu_hours:g}: the cost is unknown until a run of each stage and shape of model has "
                f"finished in this store on such a machine; submit a small part without it first, for example with "
                f"--only seed={made.sweep.seeds[0]}"
            )
        total = sum(cost.seconds(run) or 0.0 for run in runs) / 3600
        if total > self.max_gpu_hours:
            raise ConfigError(f"--max-gpu-hours {self.max_gpu_hours:g}: {len(runs)} runs are estimated at {total:.1f}")

    def rehearse(self, store: Store, made: Plan, test_only: bool) -> None:
        """Print the scripts, or when SLURM would start them; submits nothing, and leaves plan and runs as they are."""
        seen = look(store, parents_of(made))
        pending = take_up(store, made, seen.states, self.chosen, self.retried)
        self.check(store, made, pending)
        with tempfile.TemporaryDirectory() as elsewhere:
            launcher = self.launcher(store, made, store.root / "code" / take_snapshot(Path(elsewhere)).name)

        def show(batch: Batch) -> list[str]:
            runs = f"{len(batch.runs)} runs" if len(batch.runs) > 1 else f"run {batch.runs[0]}"
            console.print(f"# {batch.stage}, {runs}", markup=False)
            console.print(launcher.expected_start(batch) if test_only else launcher.show(batch), markup=False)
            return [f"<job of {job[0]}>" for job in batch.jobs]

        launcher.submit(pending, _waiting(seen), None, show)


def submit_to_slurm(store: Store, made: Plan, order: Order, quiet: bool = False) -> None:
    """Submit what is missing and return.

    Raises:
        SchedulerError: SLURM refuses in the middle; what was submitted stays.
        RunDirError: as of `check_is_stored`, and of `take_up`.
    """
    control.queue()  # before anything is written: is there a SLURM that answers?
    with Claim(submit_lock(store)).held("the run root, for submitting,", beats=True):
        if order.has_plan:
            check_is_stored(store, made, order.profile_name)
        queue = control.queue(submitters(store))  # now that no other submit is at work
        adopt_orphans(store, queue)
        seen = look(store, parents_of(made))
        pending = take_up(store, made, seen.states, order.chosen, order.retried, order.is_watched)
        kept = {state: n for state in ("done", *AT_WORK) if (n := seen.count(state))}
        if not quiet or pending:
            words = ", ".join(f"{n} {state}" for state, n in kept.items()) or "none there yet"
            console.print(f"{made.sweep.name}: {len(pending)} of {len(made.runs)} runs to submit; {words}")
        if pending:
            order.check(store, made, pending)
        prepare_runs(store, made, order.profile.runtime, seen)
        if pending:
            set_results_aside(store, made, pending)
            num_mine = sum(job.is_active and job.user == control.user() for job in queue.values())
            _submit(order, store, made, pending, seen, num_mine)


def _submit(order: Order, store: Store, made: Plan, pending: list[str], seen: Look, num_in_queue: int) -> None:
    from rich.progress import Progress

    known = (order.profile.max_submitted, control.max_submit(order.profile.account))
    limits = [limit for limit in known if limit is not None]
    room = max(0, min(limits) - num_in_queue) if limits else None
    launcher = order.launcher(store, made, take_snapshot(store.root))
    num_submitted = 0
    with Progress(console=console, disable=not console.is_terminal) as bar:
        shown = bar.add_task("submitting", total=len(pending))

        def count(num_runs: int) -> None:
            nonlocal num_submitted
            num_submitted += num_runs
            bar.advance(shown, num_runs)

        try:
            submitted = launcher.submit(pending, _waiting(seen), room, progress=count)
        except SchedulerError as error:
            # What a QOS allows is in no answer of SLURM's before; an array that is larger is refused each time.
            too_large = "; smaller ones go: max_submitted in the profile" if "MaxSubmit" in str(error) else ""
            raise SchedulerError(
                f"{error}{too_large}; {num_submitted} of {len(pending)} runs were submitted, the same command submits the rest"
            ) from None
    if num_submitted < len(pending):
        known_to_slurm = {**_waiting(seen), **dict.fromkeys(submitted, "")}
        is_full = any(launcher.can_wait(id_, known_to_slurm) for id_ in pending if id_ not in submitted)
        full = f"the queue takes {min(limits, default=0)} jobs of yours"
        why = full if is_full else "the parents of the rest are at work elsewhere"
        console.print(f"submitted {num_submitted} of {len(pending)}: {why}; {order.rest}, submits the rest", markup=False)
    else:
        console.print(f"submitted {num_submitted}; see {order.see}", markup=False)


def _waiting(seen: Look) -> dict[str, str]:
    return {id_: job.id for id_, job in seen.jobs.items()}
