"""A search's page: shared recipe beside tuned, with the budget; every trial; sensitivity curves, slices, importances.

Reads search.json alone, which the coordinator writes after each round; nobody but it opens the journal.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.collect import load_study, where_from
from analysis.formats import is_number, markdown, results_table
from analysis.style import KINDS, WIDTH_IN, apply, save
from analysis.table import cell_table
from vmae.errors import ResultsError
from vmae.results import runs_of_search
from vmae.runs import Store, winners_of

MIN_FOR_IMPORTANCE = 10  # completed trials; fewer tell nothing of variance


def trials_frame(summary: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row per trial in order; a failed one has a reason and no value."""
    rows = [
        {"dataset": cell["dataset"], "arm": cell["arm"], "trial": trial["number"], "state": trial["state"], **trial["params"]}
        | {"value": trial["value"], "reason": trial["reason"], "run": trial["runs"]["evaluate"]}
        for cell in summary["cells"]
        for trial in cell["trials"]
    ]
    return pd.DataFrame(rows)


def cells_frame(summary: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row per cell: value of the shared recipe and of the best trial on the hold-out, and the budget of both."""
    rows = []
    for cell in summary["cells"]:
        done = [trial for trial in cell["trials"] if trial["value"] is not None]
        failed = sum(trial["state"] == "FAIL" for trial in cell["trials"])
        best = cell["trials"][cell["best"]] if done else {"value": None, "number": None, "params": {}}
        rows.append(
            {
                "dataset": cell["dataset"],
                "arm": cell["arm"],
                "shared recipe": _number(cell["trials"][0]["value"]),
                "tuned": _number(best["value"]),
                "trial": "–" if best["number"] is None else str(best["number"]),
                "tuned values": ", ".join(f"{path} = {_value(value)}" for path, value in best["params"].items()),
                "budget": f"{len(done) + failed} of {summary['num_trials']} trials, {failed} failed",
            }
        )
    return pd.DataFrame(rows)


def importances(summary: Mapping[str, Any], cell: Mapping[str, Any]) -> dict[str, float]:
    """Return each field's share of the variance (Optuna's fANOVA); {} with one field or too few trials."""
    import optuna

    done = [trial for trial in cell["trials"] if trial["value"] is not None]
    if len(summary["space"]) < 2 or len(done) < MIN_FOR_IMPORTANCE or len({trial["value"] for trial in done}) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    distributions: dict[str, optuna.distributions.BaseDistribution] = {}
    for path, part in summary["space"].items():
        values = [trial["params"][path] for trial in done]
        if len(set(values)) < 2:
            return {}
        if all(is_number(value) for value in values):
            distributions[path] = optuna.distributions.FloatDistribution(min(values), max(values), log=part["log"])
        else:
            distributions[path] = optuna.distributions.CategoricalDistribution(sorted(set(values), key=str))
    for trial in done:
        study.add_trial(optuna.create_trial(params=trial["params"], distributions=distributions, value=trial["value"]))
    found = optuna.importance.get_param_importances(study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0))
    return {path: float(share) for path, share in found.items()}


def draw_slices(summary: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw, for each field, the value over it: a curve per arm where it is the only field, else points."""
    import seaborn as sns
    from matplotlib import pyplot as plt

    apply()
    frame, files = trials_frame(summary).dropna(subset=["value"]), []
    several = frame["dataset"].nunique() > 1
    for path, part in summary["space"].items():
        figure, axes = plt.subplots(figsize=(WIDTH_IN, 0.65 * WIDTH_IN))
        seen: set[str] = set()  # kinds; the second arm of one is drawn hollow
        for k, ((dataset, arm), rows) in enumerate(frame.groupby(["dataset", "arm"], sort=False)):
            kind = str(arm).partition(" ")[0]
            look = dict(KINDS.get(kind, {"marker": "o"})) | {"color": sns.color_palette("colorblind")[k % 10]}
            look |= {"markerfacecolor": "none"} if kind in seen else {}
            seen.add(kind)
            look |= {} if len(summary["space"]) == 1 else {"linestyle": "none"}
            rows = rows.sort_values(path)
            axes.plot(rows[path], rows["value"], label=f"{dataset}: {arm}" if several else str(arm), **look)
        axes.set(xlabel=path, ylabel=f"{summary['metric']} on {summary['split']}", xscale="log" if part["log"] else "linear")
        axes.legend(fontsize=8)
        files += save(figure, folder / f"slice-{path.replace('.', '-')}")
    return files


def write_search(store: Store, name: str, folder: Path) -> Path:
    """Write search.md, trials.csv and figures; return the page. ResultsError where no trial has completed."""
    summary = store.read_search(name)
    trials = trials_frame(summary)
    if not trials["value"].notna().any():
        raise ResultsError(f"search {name}: no trial has completed")
    folder.mkdir(parents=True, exist_ok=True)
    trials.to_csv(folder / "trials.csv", index=False, lineterminator="\n")
    figures = [file for file in draw_slices(summary, folder / "figures") if file.suffix == ".png"]
    lines = [
        f"# {name}",
        str(summary["purpose"]),
        f"Each cell: {summary['num_trials']} trials, sampler {summary['sampler']}, the shared recipe as trial 0. Pruning is "
        f"{summary['pruning']}.",
        "## Shared recipe beside tuned",
        markdown(cells_frame(summary)),
        f"Values are {summary['metric']} on {summary['split']}, one seed. The tuned one is the largest of its cell's, so it is "
        "too high by luck; what tuning brings is told by the exported winners with fresh seeds on the reported list.",
        "## Sensitivity",
        *(f"![{file.stem}](figures/{file.name})" for file in figures),
    ]
    shares = {f"{cell['dataset']}, {cell['arm']}": importances(summary, cell) for cell in summary["cells"]}
    if any(shares.values()):
        found = pd.DataFrame([{"cell": cell, **{p: f"{s:.2f}" for p, s in row.items()}} for cell, row in shares.items() if row])
        lines += ["## Importance (fANOVA)", markdown(found)]
    shown = trials.assign(value=[_number(value) for value in trials["value"]])
    lines += [
        *_winners(store, name),
        "## Trials",
        markdown(shown),
        "## Where this comes from",
        _provenance(store, summary),
    ]
    page = folder / "search.md"
    page.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    return page


def _winners(store: Store, name: str) -> list[str]:
    """Return what the exported winners came to on the reported list, if they were submitted under their own name."""
    sweep = winners_of(name)
    if not store.plan_file(sweep).exists():
        return []
    study = load_study(store, sweep)
    tables = [
        results_table(part, str(part["dataset"].iloc[0])).assign(arm=[f"{question}: {arm}" for arm in part["arm"]])
        for question, part in cell_table(study).groupby("ablation", sort=False)
    ]
    shown = pd.concat(tables).drop(columns=["epochs", "clips seen"], errors="ignore").fillna("")
    seeds = ", ".join(map(str, study.plan["seeds"]))
    return [
        "## Winners on the reported list",
        markdown(shown),
        f"Sweep {sweep}, seeds {seeds}, none of which selected anything; budget as above, spent once per cell.",
    ]


def _provenance(store: Store, summary: Mapping[str, Any]) -> str:
    runs = (store.run(id_).finished() for id_ in runs_of_search(summary))
    return "\n".join(f"- {line}" for line in where_from([found for found in runs if found], [summary["run_seed"]]))


def _value(value: Any) -> str:
    return f"{value:g}" if is_number(value) else str(value)


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.2f}"
