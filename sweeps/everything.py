"""Every ablation there is, each run once."""

import importlib
from pathlib import Path

import ablations
from sweeps.declared import Declaration

NAMES = sorted(path.stem for path in Path(ablations.__file__).parent.glob("*.py") if path.stem != "__init__")

SWEEP = Declaration(
    name="everything",
    doc=__doc__,
    ablations=tuple(importlib.import_module(f"ablations.{name}").ABLATION for name in NAMES),
)
