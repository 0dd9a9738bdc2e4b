"""Where a result comes from: code, versions, machine, seeds. Recorded with every result; nothing secret, no environment."""

import functools
import importlib.metadata
import json
import platform
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from vmae.identity import SCHEME_VERSION
from vmae.runs import now
from vmae.runtime import num_cpus

PACKAGES = ("torch", "timm", "numpy", "decord", "av", "torchcodec", "simplejpeg", "pydantic", "submitit")


def provenance() -> dict[str, Any]:
    """Return the facts of this process; what torch knows of processor and GPU only where it is already loaded."""
    facts: dict[str, Any] = {
        "at": now(),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "num_cpus": num_cpus(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "id_scheme": SCHEME_VERSION,
        **code_version(),
    }
    if (torch := sys.modules.get("torch")) is not None:
        facts["torch_threads"] = torch.get_num_threads()
        facts["cpu_capability"] = torch.backends.cpu.get_cpu_capability()  # processors of one name differ in it
        if torch.cuda.is_available():
            facts["gpu"] = torch.cuda.get_device_name()
            facts["cuda"] = torch.version.cuda
            facts["driver"] = _gpu_driver()
    return facts


@functools.cache
def code_version() -> dict[str, Any]:
    """Return `commit` and `dirty` of the checkout or code snapshot this package runs from; None where it is neither."""
    here = Path(__file__).parent
    snapshot = here.parent / "SNAPSHOT.json"
    if snapshot.exists():
        facts: dict[str, Any] = json.loads(snapshot.read_text(encoding="utf-8"))
        return facts
    commit = git(here, "rev-parse", "HEAD")
    status = git(here, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit or None, "dirty": bool(status) if status is not None else None}


def git(where: Path, *words: str) -> str | None:
    """Return what git prints in a checkout, or None where there is no git or no checkout."""
    return _said("git", "-C", str(where), *words)


def _said(*command: str) -> str | None:
    """Return what a command prints, None where it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _gpu_driver() -> str | None:
    """Return the version of the NVIDIA driver, None where nobody says it."""
    words = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return next(iter((_said(*words) or "").splitlines()), None)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
