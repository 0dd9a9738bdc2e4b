"""A sweep at any scale: its ablations, carried out with the recipes and seeds of a preset."""

from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.scales import DATASETS, DEFAULT, scale
from vmae.study import Ablation, Sweep


@dataclass(frozen=True)
class Declaration:
    """Ablations whose arms say by themselves at which presets they make sense.

    Args:
        datasets: by the paper's names, those it is about; empty: all of the preset.
        default: the preset it is meant for.
        seeds: instead of the preset's.
    """

    name: str
    doc: str
    ablations: Sequence[Ablation]
    datasets: tuple[str, ...] = ()
    default: str = DEFAULT
    seeds: tuple[int, ...] = ()

    def at(self, preset: str | None) -> Sweep:
        """Return the sweep at `preset` (None: its default), named after both; ConfigError for an unknown one."""
        preset = preset or self.default
        at = scale(preset)
        name = self.name if preset == self.default else f"{self.name}-{preset}"
        asked = {
            dataset: recipe for dataset, recipe in at.recipes.items() if at.stands_for[dataset] in (self.datasets or DATASETS)
        }
        return Sweep(name, self.doc, self.ablations, asked, self.seeds or at.seeds, at.stands_for, preset)
