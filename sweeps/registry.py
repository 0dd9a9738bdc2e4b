"""Finds sweeps by name: each module of this folder that declares `SWEEP`."""

import importlib
from collections.abc import Collection
from pathlib import Path

from sweeps.declared import Declaration
from sweeps.scales import PRESETS
from vmae.errors import ConfigError, near
from vmae.study import Sweep

NOT_DECLARATIONS = {"__init__", "__main__", "declared", "paper", "paper_values", "presets", "registry", "scales"}


def names() -> list[str]:
    """Return the names of all declared sweeps."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in NOT_DECLARATIONS)


def split_name(name: str, known: Collection[str] | None = None) -> tuple[str, str | None]:
    """Return a sweep's name and the preset that it may end in, as plans are named: `paper_table1-proxy`.

    Args:
        known: names instead of the sweeps'.
    """
    module, _, ending = name.rpartition("-")
    return (module, ending) if module in (names() if known is None else known) and ending in PRESETS else (name, None)


def load(name: str, preset: str | None = None) -> Sweep:
    """Import a sweep, which checks its declarations, at a preset (None: its own, or the default one).

    Raises:
        ConfigError: unknown name or preset, with the near word; a preset for a sweep that has only one.
    """
    name, ending = split_name(name)
    if ending and preset not in (None, ending):
        raise ConfigError(f"sweep {name}-{ending} is at preset {ending!r}, not {preset!r}")
    preset = preset or ending
    if name not in names():
        raise ConfigError(f"no sweep {name!r}{near(name, names())}")
    sweep: Sweep | Declaration = importlib.import_module(f"sweeps.{name}").SWEEP
    if isinstance(sweep, Declaration):
        return sweep.at(preset)
    if preset not in (None, sweep.preset):
        raise ConfigError(f"sweep {name!r} has only preset {sweep.preset!r}, not {preset!r}")
    return sweep
