"""Finds sweeps by name: each module of this folder that declares `SWEEP`."""

import importlib
import traceback
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sweeps.declared import Declaration
from sweeps.scales import PRESETS
from vmae.errors import ConfigError, VmaeError, near
from vmae.study import Sweep

ROOT = Path(__file__).parent.parent
NOT_DECLARATIONS = {"__init__", "__main__", "declared", "paper", "paper_values", "presets", "registry", "scales"}


def names() -> list[str]:
    """Return the names of all declared sweeps."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in NOT_DECLARATIONS)


def searches() -> list[str]:
    """Return the names of all declared searches, which `sweeps.searching.declared` reads."""
    return sorted(p.stem for p in (Path(__file__).parent / "searches").glob("*.py") if p.stem != "__init__")


def is_declared(name: str) -> bool:
    """Return whether a sweep is declared, by its name or with a preset at its end; its file may still be broken."""
    return split_name(name)[0] in names()


def split_name(name: str, known: Collection[str] | None = None) -> tuple[str, str | None]:
    """Return a sweep's name and the preset that it may end in, as plans are named: `paper_table1-proxy`.

    Args:
        known: names instead of the sweeps'.
    """
    module, _, ending = name.rpartition("-")
    return (module, ending) if module in (names() if known is None else known) and ending in PRESETS else (name, None)


def declared(module: str, what: str, kinds: tuple[type[Any], ...]) -> Any:
    """Import a module and return what it declares; ConfigError names file and line of whatever is wrong in it.

    Args:
        kinds: of which it must be. Its name must be its file's: plans, reports and what prune may delete go by it.
    """
    try:
        found: Any = getattr(importlib.import_module(module), what)
    except Exception as error:
        words = str(error) if isinstance(error, VmaeError) else f"{type(error).__name__}: {error}"
        raise ConfigError(f"{_place(error, module)}: {words}") from None
    file, name = f"{module.replace('.', '/')}.py", module.rpartition(".")[2]
    if not isinstance(found, kinds):
        allowed = " or ".join(kind.__name__ for kind in kinds)
        raise ConfigError(f"{file}: {what} is of type {type(found).__name__}; allowed: {allowed}")
    if found.name != name:
        raise ConfigError(f"{file}: {what} is named {found.name!r}; allowed: {name!r}, as its file")
    return found


def _place(error: Exception, module: str) -> str:
    """Return file and line of the declaration that was being read: of the last one, where they import each other."""
    lines = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"]
    lines += [(error.filename or "", error.lineno)] if isinstance(error, SyntaxError) else []
    own = [(Path(file), line) for file, line in lines if Path(file).parent.name in ("sweeps", "searches", "ablations")]
    file, line = own[-1] if own else (ROOT / f"{module.replace('.', '/')}.py", 1)
    return f"{file.relative_to(ROOT) if file.is_relative_to(ROOT) else file}:{line}"


def load(name: str, preset: str | None = None) -> Sweep:
    """Import a sweep, which checks its declarations, at a preset (None: its own, or the default one).

    Raises:
        ConfigError: a file that cannot be imported, with its line; unknown name or preset, with the near word; a preset for a
            sweep that has only one.
    """
    name, ending = split_name(name)
    if ending and preset not in (None, ending):
        raise ConfigError(f"sweep {name}-{ending} is at preset {ending!r}, not {preset!r}")
    preset = preset or ending
    if name not in names():
        if name in searches():
            raise ConfigError(f"{name!r} is a search, not a sweep; where it stands: python -m sweeps search status {name}")
        raise ConfigError(f"no sweep {name!r}{near(name, names())}")
    sweep: Sweep | Declaration = declared(f"sweeps.{name}", "SWEEP", (Sweep, Declaration))
    if isinstance(sweep, Declaration):
        return sweep.at(preset)
    if preset not in (None, sweep.preset):
        raise ConfigError(f"sweep {name!r} has only preset {sweep.preset!r}, not {preset!r}")
    return sweep
