"""What the numbers of one table say, in sentences made from them and from nothing else."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from scipy import special

from analysis.collect import Study


def in_words(study: Study, ablation: Mapping[str, Any], cells: pd.DataFrame) -> list[str]:
    """Return the report's sentences for one ablation on one data set, as a markdown list."""
    shown = cells[cells["num_seeds"] > 0]
    if shown.empty:
        return [f"- {_missing(cells)}"]
    sentences = [_missing(cells), _above_chance(study, shown), _beats_floors(shown), _versus_scratch(shown)]
    if shown["num_seeds"].max() == 1:
        sentences.append("One seed: differences between arms are differences between single runs and prove no ordering.")
    found = [f"- {sentence}" for sentence in sentences if sentence]
    return ["\n".join(found)] if found else []


def legend(study: Study, cells: pd.DataFrame, baseline: str, dataset: str) -> str:
    """Return what the numbers of a table are."""
    shown = cells[cells["num_seeds"] > 0]
    if shown.empty:
        return f"No arm is finished. Baseline: {baseline}."
    paper_name = study.paper_name(dataset)
    stand_in = "" if paper_name == dataset else f" The paper's numbers are of {paper_name}: another data set and another scale."
    num_scored, num_expected = shown["num_scored"].min(), shown["num_expected"].max()
    return (
        f"{seeds_note(cells).capitalize()}; {num_scored:.0f} of {num_expected:.0f} test videos scored, "
        f"which alone gives a standard error of about {shown['top1_video_se'].mean():.1f} points. Baseline: {baseline}."
        f"{_detectable(shown)} Differences: {how_judged(study, dataset)} over seeds where there are two or "
        "more, else McNemar's exact test over the test videos, which says nothing about another seed; verdicts at 5 % after "
        "Holm's correction over the table."
        f"{stand_in} Losses of different masks cannot be compared with each other, only with their floors."
    )


def how_judged(study: Study, dataset: str) -> str:
    """Return by which test differences over seeds on a data set are judged."""
    spread = study.spread(dataset)
    if spread is None:
        return "paired t test"
    arms = f"the {spread.num_arms} arms on this data set"
    if spread.is_shared:
        return f"t test, paired by seed, by the spread that {arms} share ({spread.sd:.1f} points, {spread.df} degrees of freedom)"
    return f"paired t test, as {arms} may not spread alike (Bartlett's test, p = {spread.p_equal:.2g})"


def over_what(compared: pd.DataFrame, label: str, videos: str = "test videos of one seed") -> str:
    """Return over what the differences of arms to `label` are, the exceptions by name."""
    over = compared[f"vs_{label}_over"]
    of_videos = list(compared.loc[over == "videos", "arm"])
    if not of_videos:
        return "over seeds"
    return f"over {videos}" if len(of_videos) == len(over) else f"over seeds; {', '.join(of_videos)}: over {videos}"


def seeds_note(cells: pd.DataFrame) -> str:
    """Return what the intervals of a table or figure are."""
    counts = sorted(set(cells.loc[cells["num_seeds"] > 0, "num_seeds"]))
    if not counts:
        return "no finished cell"
    if counts == [1]:
        return "one seed: no interval over seeds"
    several = " or ".join(str(count) for count in counts if count > 1)
    return f"95 % t intervals over {several} seeds{', none of one seed' if 1 in counts else ''}"


def _detectable(shown: pd.DataFrame) -> str:
    column = "vs_baseline_detectable"
    if column not in shown or not shown[column].notna().any():
        return ""
    over_seeds = shown[shown["vs_baseline_over"] == "seeds"]
    asked = over_seeds if len(over_seeds) else shown
    known = asked.loc[asked[column] > 0, column]
    if known.empty:
        return " All seeds gave the same differences to it, so what such an experiment would find is not known."
    least, most = f"{known.min():.1f}", f"{known.max():.1f}"
    points = least if least == most else f"{least} to {most}"
    return f" Smallest difference to it that such an experiment finds, so corrected, in four of five cases: {points} points."


def _missing(cells: pd.DataFrame) -> str:
    missing = cells[cells["state"] != "done"]
    named = [f"{arm} ({state})" for arm, state in zip(missing["arm"], missing["state"], strict=True)]
    return f"Missing: {', '.join(named)}." if named else ""


def _above_chance(study: Study, shown: pd.DataFrame) -> str:
    """Say which arms are above chance by an exact binomial test on the worst seed, one-sided, at 1 %."""
    failed = []
    for cell in shown[["ablation", "dataset", "arm"]].to_dict("records"):
        rows = study.finished(cell["ablation"], cell["dataset"], cell["arm"]).dropna(subset=["evaluate.top1"])
        numbers = rows[["evaluate.top1", "evaluate.num_scored", "evaluate.chance"]].to_dict("records")
        worst = min(numbers, key=lambda row: row["evaluate.top1"])
        n = int(worst["evaluate.num_scored"])
        hits = round(n * worst["evaluate.top1"] / 100)
        if special.bdtrc(hits - 1, n, worst["evaluate.chance"] / 100) >= 0.01:
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
    won = trained["pretrain_beats_floors"].astype(bool)
    lost = list(trained.loc[~won, "arm"])
    text = f"Pre-training beats its trivial floors on held-out clips in {won.sum()} of {len(trained)} arms."
    return f"{text} **Not converged beyond copying: {', '.join(lost)}.**" if lost else text


def _versus_scratch(shown: pd.DataFrame) -> str:
    compared = shown.dropna(subset=["vs_scratch"]) if "vs_scratch" in shown else shown[:0]
    if compared.empty:
        return ""
    by_verdict: dict[str, list[str]] = {"better": [], "worse": [], "not distinguishable": []}
    for arm, points, said in zip(*(compared[c] for c in ("arm", "vs_scratch", "vs_scratch_verdict")), strict=True):
        verdict = next(word for word in by_verdict if str(said).startswith(word))
        by_verdict[verdict].append(f"{arm} ({points:+.1f})")
    parts = [f"{verdict}: {', '.join(arms)}" for verdict, arms in by_verdict.items() if arms]
    scratch = shown.loc[shown["arm"] == "scratch", "finetune_clips"]
    same = " for as many fine-tuning clips" if set(compared["finetune_clips"]) == set(scratch) else ""
    return f"Against training from scratch{same}, pre-training is {'; '.join(parts)} (5 %, {over_what(compared, 'scratch')})."
