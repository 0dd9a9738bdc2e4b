"""A sweep at any scale: its ablations, carried out with the recipes and seeds of a preset."""

from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.scales import DEFAULT, scale
from vmae.study import Ablation, Sweep


@dataclass(frozen=True)
class Declaration:
    """Ablations whose arms say by themselves at which presets they make sense."""

    name: str
    doc: str
    ablations: Sequence[Ablation]

    def at(self, preset: str | None) -> Sweep:
        """Return the sweep at `preset` (None: the default), named after both; ConfigError for an unknown one."""
        preset = preset or DEFAULT
        at = scale(preset)
        name = self.name if preset == DEFAULT else f"{self.name}-{preset}"
        return Sweep(name, self.doc, self.ablations, at.recipes, at.seeds, at.stands_for, preset)
