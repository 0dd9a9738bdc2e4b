"""Several ranks of one run, each in a clean process that has torch imported already: importing it is most of a short run."""

import functools
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from helpers import ROOT, clean_environment, free_port

PRELOADED = ["vmae.job", "vmae.train.pretrain", "vmae.train.finetune", "vmae.train.evaluate", "vmae.train.contrast"]


@functools.cache
def _fresh():
    """Processes forked from one that has imported and nothing else, so that no thread pool or random state is inherited."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


class Rank:
    """A process that runs `work(*arguments)` in an environment of its own, all it says in a file."""

    def __init__(self, environment: dict[str, str], work: Callable, *arguments: object) -> None:
        self.said = tempfile.NamedTemporaryFile("r", prefix="rank-")  # noqa: SIM115
        self.process = _fresh().Process(target=_become, args=(environment, self.said.name, work, arguments))
        self.process.start()

    def join(self, limit_s: float = 120) -> tuple[int | None, str]:
        """Exit status and what was said."""
        self.process.join(limit_s)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        return self.process.exitcode, self.said.read()


def _become(environment: dict[str, str], said: str, work: Callable, arguments: tuple) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    out = os.open(said, os.O_WRONLY | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    work(*arguments)


def vmae(*words: str) -> None:
    """The command `vmae`."""
    from vmae.__main__ import main

    sys.argv = ["vmae", *words]
    main()


def vmae_until(step: int, leave: Callable[[], None], *words: str) -> None:
    """The command `vmae`, whose process goes by `leave` after an optimiser step, before that is saved."""
    import pytest
    from helpers import around_update

    around_update(pytest.MonkeyPatch(), after=lambda training: leave() if training.progress.step == step else None)
    vmae(*words)


def python(code: str) -> None:
    """`python -c`."""
    exec(code, {})


def ends_as_torchrun_starts(*tasks: tuple) -> list[tuple[int | None, str]]:
    """Start one rank per task (what it does, and with what) over gloo; return how each ended and what it said."""
    where = {"WORLD_SIZE": str(len(tasks)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = [Rank(clean_environment(RANK=str(r), LOCAL_RANK=str(r), **where), *task) for r, task in enumerate(tasks)]
    return [rank.join() for rank in ranks]


def run_as_torchrun_does(path: Path, num_ranks: int) -> None:
    """Work on a run directory with `num_ranks` ranks over gloo; AssertionError with what they said if one fails."""
    ends = ends_as_torchrun_starts(*[(vmae, "run", str(path))] * num_ranks)
    assert [code for code, _ in ends] == [0] * num_ranks, ends
