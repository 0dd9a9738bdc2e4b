"""The code that jobs run: a copy of this checkout as it was submitted, so that editing it changes no queued job.

One folder per state of the code, <runs>/code/<commit>[-<hash of what differs>]: uncommitted and untracked sources are in it, and
`dirty.diff` shows them. Jobs start with it as their working directory, which Python searches first.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

from vmae.errors import RunDirError
from vmae.provenance import git

CHECKOUT = Path(__file__).parent.parent
ROOMS = ("vmae", "ablations", "sweeps", "slurm", "analysis")
KINDS = {".py", ".toml", ".csv"}


def take_snapshot(store_root: Path, checkout: Path = CHECKOUT) -> Path:
    """Copy the sources to the store unless they are there, and return the folder; RunDirError if it cannot be written."""
    files = sources(checkout)
    commit = git(checkout, "rev-parse", "HEAD")
    dirty = git(checkout, "status", "--porcelain", "--untracked-files=all", "--", *ROOMS) if commit else None
    name = commit[:12] if commit else "no-git"
    if dirty or not commit:
        name += f"-{_digest(checkout, files)[:8]}"
    folder = store_root / "code" / name
    if folder.exists():
        return folder
    partial = folder.with_name(f".{name}.{os.getpid()}.tmp")
    try:
        for file in files:
            target = partial / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(checkout / file, target)
        facts = {"commit": commit, "dirty": bool(dirty) if commit else None}
        (partial / "SNAPSHOT.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
        if dirty:
            (partial / "dirty.diff").write_text(f"{dirty}\n{git(checkout, 'diff', 'HEAD', '--', *ROOMS)}\n", encoding="utf-8")
        try:
            partial.rename(folder)
        except OSError:
            if not folder.exists():  # otherwise another submit was first, with the same content
                raise
    except OSError as error:
        raise RunDirError(f"cannot write the code snapshot {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def sources(checkout: Path) -> list[Path]:
    """Return the source files of the rooms, relative to the checkout, sorted."""
    found = (file for room in ROOMS for file in (checkout / room).rglob("*") if file.suffix in KINDS and file.is_file())
    return sorted(file.relative_to(checkout) for file in found)


def _digest(checkout: Path, files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        content = (checkout / file).read_bytes()
        digest.update(f"{file}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
