"""Which runs a living `watch` or search would submit again, so that nobody cancels them under it."""

import contextlib
import os
import socket
from collections.abc import Collection, Iterator

from vmae.claim import Claim
from vmae.errors import RunDirError
from vmae.runs import Store


@contextlib.contextmanager
def watching(store: Store, name: str, runs: Collection[str]) -> Iterator[None]:
    """Say that this process watches these runs of a sweep, as long as it does."""
    note = Claim(store.jobs / f"watch-{socket.gethostname()}-{os.getpid()}.json")
    with note.held(f"watching {name}", beats=True, says={"sweep": name, "runs": sorted(runs)}):
        yield


def check_is_unwatched(store: Store, runs: Collection[str]) -> None:
    """Refuse to cancel runs that a watch would submit again."""
    for note in map(Claim, store.jobs.glob("watch-*.json")):
        owner = note.owner()
        if note.is_live() and not set(runs).isdisjoint(owner["runs"]):
            raise RunDirError(
                f"sweep {owner['sweep']} is watched (process {owner['pid']} on {owner['host']}), and cancelled runs would be "
                f"submitted again; stop that first, with Ctrl-C there"
            )
