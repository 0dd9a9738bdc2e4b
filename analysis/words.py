"""What the numbers of one table say, in sentences made from them and from nothing else."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from scipy import stats

from analysis.collect import Study
from analysis.table import finished


def in_words(study: Study, ablation: Mapping[str, Any], cells: pd.DataFrame) -> list[str]:
    """Return the report's sentences for one ablation on one data set, as a markdown list."""
    shown = cells[cells["num_seeds"] > 0]
    sentences = [_missing(cells), _above_chance(study, shown), _beats_floors(shown), _versus_scratch(shown)]
    if shown["num_seeds"].max() == 1:
        sentences.append("One seed: differences between arms are differences between single runs and prove no ordering.")
    return [f"- {sentence}" for sentence in sentences if sentence]


def _missing(cells: pd.DataFrame) -> str:
    missing = cells[cells["state"] != "done"]
    return f"Missing: {', '.join(f'{c.arm} ({c.state})' for c in missing.itertuples())}." if len(missing) else ""


def _above_chance(study: Study, shown: pd.DataFrame) -> str:
    """Say which arms are above chance by an exact binomial test on the worst seed, one-sided, at 1 %."""
    failed = []
    for cell in shown.to_dict("records"):
        rows = finished(study, cell["ablation"], cell["dataset"], cell["arm"])
        worst = rows.sort_values("evaluate.top1").iloc[0]
        n = int(worst["evaluate.num_scored"])
        hits = round(n * worst["evaluate.top1"] / 100)
        if stats.binomtest(hits, n, worst["evaluate.chance"] / 100, alternative="greater").pvalue >= 0.01:
            failed.append(cell["arm"])
    chance, low, high = shown["chance"].iloc[0], shown["top1"].min(), shown["top1"].max()
    text = f"Fine-tuning ends between {low:.1f} and {high:.1f} % top-1; chance is {chance:.1f} %."
    if failed:
        return f"{text} Not above chance (exact binomial test, 1 %): {', '.join(failed)}."
    return f"{text} Every arm is above chance (exact binomial test, 1 %)."


def _beats_floors(shown: pd.DataFrame) -> str:
    if "pretrain_beats_floors" not in shown:
        return ""
    trained = shown.dropna(subset=["pretrain_beats_floors"])
    won = [str(c.arm) for c in trained.itertuples() if c.pretrain_beats_floors]
    lost = [str(c.arm) for c in trained.itertuples() if not c.pretrain_beats_floors]
    text = f"Pre-training beats its trivial floors on held-out clips in {len(won)} of {len(trained)} arms."
    return f"{text} **Not converged beyond copying: {', '.join(lost)}.**" if lost else text


def _versus_scratch(shown: pd.DataFrame) -> str:
    if "vs_scratch" not in shown:
        return ""
    compared = shown.dropna(subset=["vs_scratch"])
    by_verdict = {
        verdict: [f"{c.arm} ({c.vs_scratch:+.1f})" for c in compared.itertuples() if c.vs_scratch_verdict == verdict]
        for verdict in ("better", "worse", "not distinguishable")
    }
    parts = [f"{verdict}: {', '.join(arms)}" for verdict, arms in by_verdict.items() if arms]
    over = "seeds" if set(compared["vs_scratch_over"]) == {"seeds"} else "test videos of one seed"
    return (
        f"Against training from scratch for the same fine-tuning epochs, pre-training is {'; '.join(parts)} (5 %, over {over})."
    )
