"""The winners of a search as a sweep: each cell's shared recipe beside its tuned one, with fresh seeds, on the reported list."""

import json
from collections.abc import Mapping
from typing import Any

from sweeps.scales import scale
from sweeps.searching.declared import Search
from vmae.arms import Arm
from vmae.errors import ConfigError, RunDirError
from vmae.runs import Store, winners_of
from vmae.study import Ablation, Sweep

LINE = 130  # characters, as pyproject.toml has it for ruff
TEMPLATE = '''"""Winners of the search {search} beside the shared recipe, with fresh seeds; written by `search export`.

Selected by {metric} on {split}, {num_trials} trials per cell, sampler {sampler}; {at}.
Code of the winning runs: {commits}.
"""

{imports}from sweeps.searching.winner import tuned_sweep

WINNERS = {winners}
SWEEP = tuned_sweep(__doc__, {name}, {preset}, {seeds}, WINNERS{own})
'''


def declaration(summary: Mapping[str, Any], store: Store, module: str = "") -> str:
    """Return the text of the file; RunDirError while trials are open or where a cell has no completed one.

    Args:
        store: where the winning runs' results say which code they are of.
        module: of the search in sweeps/searches, if it has recipes of its own.
    """
    winners = []
    for cell in summary["cells"]:
        finished = [trial for trial in cell["trials"] if trial["state"] in ("COMPLETE", "FAIL")]
        where = f"search {summary['search']}, {cell['dataset']}, {cell['arm']}"
        if len(finished) < summary["num_trials"]:
            told = f"{len(finished)} of {summary['num_trials']} told"
            raise RunDirError(f"{where}: {told}; the search is not over: python -m sweeps search {summary['search']}")
        if cell["best"] is None:
            raise RunDirError(
                f"{where}: none of {len(finished)} trials completed, the first: {finished[0]['reason']}; after mending: "
                f"python -m sweeps search {summary['search']} --fresh --retry"
            )
        won = cell["trials"][cell["best"]]
        facts = {"trial": won["number"], "holdout": won["value"], "run": won["runs"]["evaluate"]}
        winners.append(
            {"dataset": cell["dataset"], "arm": cell["arm"], "shared": cell["settings"], "tuned": won["params"], **facts}
        )
    results = [store.run(won["run"]).read_result() for won in winners]
    return TEMPLATE.format(
        **{key: summary[key] for key in ("search", "metric", "split", "num_trials", "sampler", "at")},
        commits=", ".join(sorted({str(found.provenance.get("commit", "unknown")) for found in results if found})),
        winners=_literal(winners),
        name=_literal(winners_of(summary["search"])),
        preset=_literal(summary["preset"]),
        seeds=tuple(summary["winner_seeds"]),
        imports=f"from sweeps.searches.{module} import SEARCH\n" if module else "",
        own=", SEARCH" if module else "",
    )


def _literal(value: Any, indent: int = 0, used: int = 0) -> str:
    """Return Python source as ruff would set it: winners, and mappings that no line holds, with a line per entry.

    Args:
        indent: of the line that the source begins on, whose first `used` characters are taken.
    """
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    inner = " " * (indent + 4)
    if isinstance(value, Mapping):
        flat = "{" + ", ".join(f"{_literal(key)}: {_literal(item)}" for key, item in value.items()) + "}"
        return flat if used + len(flat) < LINE else _entries(value, indent)
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        return "[\n" + "".join(f"{inner}{_entries(item, indent + 4)},\n" for item in value) + " " * indent + "]"
    return repr(tuple(value)) if isinstance(value, list) else repr(value)  # JSON has no tuples, recipes no lists


def _entries(value: Mapping[str, Any], indent: int) -> str:
    inner = " " * (indent + 4)
    lines = []
    for key, item in value.items():
        head = f"{inner}{_literal(key)}: "
        lines.append(f"{head}{_literal(item, indent + 4, len(head))},\n")
    return "{\n" + "".join(lines) + " " * indent + "}"


def tuned_sweep(
    doc: str, name: str, preset: str, seeds: tuple[int, ...], winners: list[dict[str, Any]], search: Search | None = None
) -> Sweep:
    """Return the sweep: an ablation per searched cell, whose baseline is the shared recipe; `search`: whose recipes are used."""
    at = search.scale(preset) if search else scale(preset)
    if unknown := sorted({w["dataset"] for w in winners} - set(at.recipes)):
        raise ConfigError(f"sweep {name}: preset {preset} has no data set {', '.join(unknown)}")
    ablations = []
    for won in winners:
        pretraining = "two pre-trainings" if any(path.startswith("pretrain.") for path in won["tuned"]) else "one pre-training"
        budget = f"Cost: {pretraining} and two fine-tunings per seed."
        text = f"Does tuning change {won['arm']}?\n\nExpected: no worse than the shared recipe.\n\n{budget}\n"
        arms = (Arm("shared", won["shared"]), Arm("tuned", {**won["shared"], **won["tuned"]}))
        paper_name = at.stands_for.get(won["dataset"], won["dataset"])
        ablations.append(Ablation(f"tuning of {won['arm']}", text, "none", arms, "shared", (paper_name,)))
    recipes = {won["dataset"]: at.recipes[won["dataset"]] for won in winners}
    places = {dataset: at.stands_for[dataset] for dataset in recipes if dataset in at.stands_for}
    return Sweep(name, doc, ablations, recipes, seeds, places, preset)
