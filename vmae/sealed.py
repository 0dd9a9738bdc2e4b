"""JSON files that say when they were damaged: the hash of what they hold stands in them, whatever its layout."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vmae.errors import ResultsError
from vmae.files import write_atomic

SEAL = "checksum"


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object atomically, sealed; ValueError for numbers that are not finite."""
    plain = json.loads(json.dumps(content, allow_nan=False))
    write_atomic(path, (json.dumps({**plain, SEAL: _hash(plain)}, indent=1) + "\n").encode())


def read_sealed(path: Path, remedy: str, is_required: bool = True) -> dict[str, Any]:
    """Read an object; FileNotFoundError if there is none.

    Args:
        remedy: what to do, for the message.
        is_required: a file without a seal is refused too; files of earlier versions have none.

    Raises:
        ResultsError: not what was written; names the file.
    """
    try:
        content = json.loads(path.read_bytes())
        sealed = content.pop(SEAL, None)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ResultsError(f"{path} is damaged: {error}; {remedy}") from None
    if sealed is None and is_required:
        raise ResultsError(f"{path} has no checksum: an earlier version wrote it, or it is damaged; {remedy}")
    if sealed is not None and sealed != _hash(content):
        raise ResultsError(f"{path} is damaged: its content is not what was written; {remedy}")
    return dict(content)


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
