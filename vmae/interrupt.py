"""Stop signals only set a flag; the loop honours it at a step boundary, after saving."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class StopFlag:
    """Whether a stop was asked for, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def requested(self) -> bool:
        """True once a stop signal has arrived."""
        return self.signal is not None

    @property
    def name(self) -> str:
        """Name of the signal, for the record."""
        return signal.Signals(self.signal).name if self.signal else "no signal"


@contextmanager
def stop_flag() -> Iterator[StopFlag]:
    """Turn stop signals into a flag while the block runs; children forked inside ignore them.

    Loader workers must not die of a signal meant for the run: it reaches the whole process group, and a dead worker would
    break the step that is to be finished. Outside the main thread (notebooks) signals cannot be caught, so none is.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    owner = os.getpid()

    def note(number: int, _: FrameType | None) -> None:
        if os.getpid() == owner:
            flag.signal = number

    before = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deaf_to_children() -> Iterator[None]:
    """Do without torch's SIGCHLD handler while the block runs: it raises for each killed loader process, wherever that comes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)


def ignore_stop_signals(_: int = 0) -> None:
    """`worker_init_fn`: torch resets handlers in loader workers, so they ignore the signals anew."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
