"""Every ablation there is, each run once."""

from pathlib import Path

import ablations
from sweeps.declared import Declaration
from sweeps.registry import declared
from vmae.study import Ablation

NAMES = sorted(path.stem for path in Path(ablations.__file__).parent.glob("*.py") if path.stem != "__init__")

SWEEP = Declaration(
    name="everything",
    doc=__doc__,
    ablations=tuple(declared(f"ablations.{name}", "ABLATION", (Ablation,)) for name in NAMES),
)
