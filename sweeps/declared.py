"""A sweep at any scale: its ablations, carried out with the recipes and seeds of a preset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sweeps.scales import DATASETS, DEFAULT, scale
from vmae.study import Ablation, Sweep


@dataclass(frozen=True)
class Declaration:
    """Ablations whose arms say by themselves at which presets they make sense.

    Args:
        datasets: by the paper's names, those it is about; empty: all of the preset.
        default: the preset it is meant for.
        seeds: instead of the preset's.
        spread: as of `Sweep`.
        settings: of its recipes, where they leave the preset it is meant for; at another preset they do not apply.
    """

    name: str
    doc: str
    ablations: Sequence[Ablation]
    datasets: tuple[str, ...] = ()
    default: str = DEFAULT
    seeds: tuple[int, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    spread: Literal["own", "pooled"] = "own"

    def at(self, preset: str | None) -> Sweep:
        """Return the sweep at `preset` (None: its default), named after both; ConfigError for an unknown one."""
        preset = preset or self.default
        at = scale(preset)
        name = self.name if preset == self.default else f"{self.name}-{preset}"
        settings = self.settings if preset == self.default else {}
        asked = {
            dataset: recipe.replace(settings)
            for dataset, recipe in at.recipes.items()
            if at.stands_for[dataset] in (self.datasets or DATASETS)
        }
        places = {dataset: at.stands_for[dataset] for dataset in asked}
        return Sweep(name, self.doc, self.ablations, asked, self.seeds or at.seeds, places, preset, self.spread)
