"""Finds sweeps by name: each module of this folder that declares `SWEEP`."""

import importlib
from pathlib import Path

from vmae.errors import ConfigError, near
from vmae.study import Sweep

NOT_DECLARATIONS = {"__init__", "__main__", "paper", "presets", "registry"}


def names() -> list[str]:
    """Return the names of all declared sweeps."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in NOT_DECLARATIONS)


def load(name: str) -> Sweep:
    """Import a sweep, which checks its declarations; ConfigError with the near word for an unknown name."""
    if name not in names():
        raise ConfigError(f"no sweep {name!r}{near(name, names())}")
    sweep: Sweep = importlib.import_module(f"sweeps.{name}").SWEEP
    return sweep
