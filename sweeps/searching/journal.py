"""Where studies are kept: a journal that one coordinator touches, repaired after a crash; or a database for teams."""

import contextlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vmae.errors import ConfigError, RunDirError
from vmae.files import write_atomic

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


def recover_tail(journal: Path) -> str | None:
    """Cut a journal after its last whole record, keep what was cut beside it, and return a sentence; None if it is whole.

    Raises:
        RunDirError: a damaged record in the middle, where whole ones follow: no crash of a writer leaves that.
    """
    if not journal.exists():
        return None
    content = journal.read_bytes()
    whole, num_records = 0, 0
    for line in content.splitlines(keepends=True):
        if not _is_record(line):
            break
        whole += len(line)
        num_records += 1
    tail = content[whole:]
    if not tail:
        return None
    if any(_is_record(line) for line in tail.splitlines(keepends=True)[1:]):
        raise RunDirError(
            f"{journal}:{num_records + 1}: a damaged record, and whole ones after it: more than one process wrote here, or the "
            f"file was edited; restore it from a copy, or begin anew with --fresh (finished runs are kept and cost nothing)"
        )
    cut = journal.with_name(f"{journal.name}.cut-{num_records}")
    write_atomic(cut, tail)
    write_atomic(journal, content[:whole])
    return f"{journal}: the last record was half-written ({len(tail)} bytes); recovered {num_records} whole ones; cut: {cut.name}"


def _is_record(line: bytes) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def open_journal(journal: Path) -> "BaseStorage":
    """Return the storage in a file. The caller holds the search's claim, so that a lock found here is a dead writer's."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
        # A symbolic link is made at once on every NFS, where O_EXCL is not.
        return JournalStorage(JournalFileBackend(str(journal), lock_obj=JournalFileSymlinkLock(str(journal))))
    except OSError as error:
        raise RunDirError(f"cannot use {journal}: {error.strerror or error}") from None
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise RunDirError(f"{journal} is no journal of Optuna: {error!r}; begin anew with --fresh") from None


def open_database(url: str) -> "BaseStorage":
    """Return the storage in a database by its SQLAlchemy URL; ConfigError if it cannot be reached, with its first words."""
    if url.startswith("sqlite"):
        raise ConfigError(
            "--storage sqlite: it locks badly on network file systems; leave it out (journal), or use postgresql://"
        )
    from optuna.storages import RDBStorage

    try:
        return RDBStorage(url)
    except Exception as error:  # SQLAlchemy, its driver and Optuna each raise their own
        first = str(error).strip().partition("\n")[0]
        shown = url if "@" not in url else f"{url.partition('://')[0]}://...@{url.rpartition('@')[2]}"
        raise ConfigError(f"--storage {shown}: {first or type(error).__name__}") from None


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Without Optuna's line per trial and its notes on what is experimental."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
