"""Where runs lie by default; and writing files so that a reader sees the old or the new content, never half of one."""

import contextlib
import hashlib
import os
import pickle
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from vmae.errors import CheckpointError, RunDirError

# What zipfile, torch, pickle and our own reading say of a damaged file.
_OF_FORMATS = (zipfile.BadZipFile, zlib.error, struct.error, pickle.UnpicklingError, EOFError)
UNREADABLE = (*_OF_FORMATS, OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError)


def default_root() -> Path:
    """Return the store's root: $VMAE_RUNS, or `runs` in the working directory."""
    return Path(os.environ.get("VMAE_RUNS", "runs"))


def write_atomic(path: Path, content: bytes | Callable[[Path], None], *, make_folder: bool = True) -> None:
    """Write `content` (or what it writes to the path it is given) to `path`: temporary name, fsync, rename.

    Raises RunDirError with path and reason where the place is full, read-only or missing; what stood there before stays.

    Args:
        make_folder: False where a missing folder means that a disk is away: a new folder would hide this from the caller, and
            its content would be out of sight once the disk is back.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        else:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise RunDirError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """Return the hash of a file's bytes; CheckpointError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None
