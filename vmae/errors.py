"""Every error a user can cause or meet.

Each message says what is wrong with its value, what is allowed, the near word, and where it stands. An `assert` in this project
is about our own mistakes; these classes are about the user's files, words and machines.
"""

import difflib
import re
from collections.abc import Iterable, Sequence

NUM_SHOWN = 5  # of many names in a message


class VmaeError(Exception):
    """Base of all errors that a command prints as one clear message instead of a traceback."""


class ConfigError(VmaeError):
    """A value, key or combination that no run could use; raised before any job exists."""


class DataError(VmaeError):
    """A manifest or video that cannot be used as asked; the message names the file."""


class RunDirError(VmaeError):
    """A run directory that is unusable: foreign config, held by another worker, not writable."""


class Busy(RunDirError):
    """Another live process holds what is asked for; once it is through, the same command goes on."""


class CheckpointError(VmaeError):
    """A checkpoint that is missing, damaged or of another model."""


class DivergedError(VmaeError):
    """Training met a loss that is not finite, in optimiser step `step` (from 1)."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


class Interrupted(VmaeError):
    """A stop signal was honoured at a step boundary; the state is saved and the run can be resumed."""


class SchedulerError(VmaeError):
    """SLURM is absent, does not answer or refuses; the message holds its words."""


class Unanswered(SchedulerError):
    """Jobs were sent to SLURM and no answer came: it may have them or not."""


class Stuck(Interrupted):
    """A job was started again and again without getting further; it is not queued again by itself."""


class ResultsError(VmaeError):
    """Results that cannot be turned into a table as asked."""


def near(word: str, allowed: Iterable[str]) -> str:
    """Return `. Did you mean 'x'? Allowed: a, b, c` for an unknown `word`; small and capital letters are alike here.

    >>> near("ration", ["kind", "ratio"])
    ". Did you mean 'ratio'? Allowed: kind, ratio"
    >>> near("0.9", ["tube 0.9", "scratch"])  # the last of several words
    ". Did you mean 'tube 0.9'? Allowed: tube 0.9, scratch"
    """
    options = list(allowed)
    meant = {option.lower(): option for option in reversed(options)}
    close = difflib.get_close_matches(word.lower(), meant, n=1, cutoff=0.6)
    close += [option for option in meant if word and re.search(rf"\W{re.escape(word.lower())}$", option)]
    hint = f". Did you mean {meant[close[0]]!r}?" if close else "."
    return f"{hint} Allowed: {', '.join(options)}" if options else hint


def reason_of(error: BaseException) -> str:
    """Return the first line of an error's words, with the next one where it announces that, or its kind if it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def some(names: Sequence[str]) -> str:
    """Return the first five names, and how many more there are: `a, b, c, d, e and 2 more`."""
    num_more = len(names) - NUM_SHOWN
    return ", ".join(names[:NUM_SHOWN]) + (f" and {num_more} more" if num_more > 0 else "")
