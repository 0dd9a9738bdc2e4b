"""The findings page: each claim against the finished runs; what was not run is said to be not run."""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.claims import CLAIMS, Check, Claim
from analysis.collect import Study
from analysis.compare import Difference, holm, over_signs, seeds_for
from analysis.formats import markdown
from analysis.paper import lookup
from analysis.table import difference, hidden_apart
from analysis.words import how_judged

NOT_RUN = "not run"
ONE_SEED = "one seed"  # of which a difference between best ratios has no error
CALLED = {"better": "supported", "worse": "contradicted"}


@dataclass(frozen=True)
class Finding:
    """What one comparison on one data set says of a claim.

    Supported or contradicted (by one seed, where videos are all that is paired), not distinguishable, one seed, not run.

    Attributes:
        to_settle: how many seeds would find a difference as large as the paper's, at the spread seen here.
    """

    claim: Claim
    check: Check | None
    dataset: str
    status: str
    numbers: str = ""
    runs: tuple[str, ...] = ()
    to_settle: str = ""


def findings(study: Study) -> list[Finding]:
    """Judge every claim, each comparison on each data set, at 5 % after Holm's correction over the whole page.

    A comparison that several claims or questions rest on, of the same runs, is one comparison.
    """
    asked = list(_asked(study))
    compared = {(check, dataset): _compare(study, check, dataset) for _, check, dataset in asked}
    own = {_comparison(check, runs): found.p_value for (check, _), (found, runs) in compared.items() if found}
    corrected = dict(zip(own, holm(list(own.values())), strict=True))
    p_values = {key: corrected.get(_comparison(key[0], runs), np.nan) for key, (_, runs) in compared.items()}
    judged: dict[str, list[Finding]] = {}
    for claim, check, dataset in asked:
        found, runs = compared[check, dataset]
        if found:  # as the verdict is
            found = replace(found, detectable=found.detectable_among(len(own)))
        finding = _judge(claim, check, dataset, found, runs, p_values[check, dataset])
        numbers = finding.numbers and finding.numbers + _apart(study, check, dataset)
        finding = replace(finding, numbers=numbers, to_settle=_to_settle(study, check, dataset, found, len(own)))
        judged.setdefault(claim.id, []).append(finding)
    return [finding for claim in CLAIMS for finding in judged.get(claim.id, [Finding(claim, None, "", unasked(claim))])]


def _comparison(check: Check, runs: Iterable[str]) -> Hashable:
    """Return what makes a comparison that was made: how, and of which runs."""
    return check.kind, frozenset(runs)


def page(study: Study, found: Sequence[Finding]) -> str:
    """Return a study's findings as markdown."""
    title = f"# Findings: {study.name}{' (SYNTHETIC)' if study.is_synthetic else ''}"
    return f"{title}\n\n{summary(study, found)}\n\n{markdown(as_table(found))}\n"


def summary(study: Study, found: Sequence[Finding]) -> str:
    """Return how many comparisons say what, and how they were judged."""
    made = {_comparison(f.check, f.runs) if f.runs else (f.check, f.dataset): f.status for f in found if f.check}
    counts = Counter(made.values())
    head = ", ".join(f"{n} {status}" for status, n in counts.items()) or "no comparison of them is in this sweep"
    return (
        f"Claims of the paper and of a review of it, judged by the finished runs: {head}. At 5 %, corrected for all comparisons "
        "of this page by Holm's rule; data sets that stand in for the paper's say nothing about the paper's own numbers."
        + "".join(f" On {dataset}: {how_judged(study, dataset)}." for dataset in _pooled(study))
    )


def _pooled(study: Study) -> list[str]:
    """Return the data sets whose arms are judged by the spread that they share, or were meant to be."""
    return [dataset for dataset in sorted(set(study.replicates["dataset"])) if study.spread(dataset)]


def as_table(found: Sequence[Finding]) -> pd.DataFrame:
    """Return a row per comparison, or per claim that none judges."""
    rows = []
    for finding in found:
        claim, check = finding.claim, finding.check
        rows.append(
            {
                "claim": claim.id,
                "statement": claim.statement,
                "the paper's evidence": claim.evidence,
                "comparison": f"{check.ablation}: {check.text}" if check else "",
                "data set": finding.dataset,
                "finding": finding.status,
                "numbers": finding.numbers,
                "seeds for the paper's": finding.to_settle,
                "runs": " ".join(finding.runs),
            }
        )
    return pd.DataFrame(rows)


def unasked(claim: Claim) -> str:
    """Return why no comparison of a sweep judges a claim."""
    return f"not judged by runs: {claim.why_not}" if claim.why_not else NOT_RUN


def _asked(study: Study) -> Iterator[tuple[Claim, Check, str]]:
    """Yield the comparisons that the sweep planned: both arms (or kinds of mask) on a data set of which the claim speaks."""
    frame = study.replicates
    for claim in CLAIMS:
        for check in claim.checks:
            part = frame[frame["ablation"] == check.ablation]
            for dataset in part["dataset"].unique():
                arms = set(part.loc[part["dataset"] == dataset, "arm"])
                if _has_both(arms, check) and (not check.datasets or study.paper_name(dataset) in check.datasets):
                    yield claim, check, dataset


def _has_both(arms: Iterable[str], check: Check) -> bool:
    """Return whether a comparison's two arms are there; of kinds of mask, whether both have the same ratios to choose from."""
    if check.kind == "better":
        return {check.arm, check.versus} <= set(arms)
    words = [arm.partition(" ") for arm in arms]
    mine, other = ({ratio for kind, _, ratio in words if kind == wanted} for wanted in (check.arm, check.versus))
    return mine == other and len(mine) > 1


def _compare(study: Study, check: Check, dataset: str) -> tuple[Difference | None, tuple[str, ...]]:
    if check.kind == "lower ratio":
        return _compare_ratios(study, check, dataset)
    mine, other = (study.finished(check.ablation, dataset, arm) for arm in (check.arm, check.versus))
    if mine.empty or other.empty:
        return None, ()
    found = difference(study, mine, other)
    return found, (*mine["run.evaluate"], *other["run.evaluate"]) if found else ()


def _compare_ratios(study: Study, check: Check, dataset: str) -> tuple[Difference | None, tuple[str, ...]]:
    """Compare the best ratio of two kinds of mask, seed by seed: `versus` less `arm`, in percent, so that above 0 is lower.

    Of ratios that one seed finds equally good the first declared is its best, for both kinds alike.
    """
    frame = study.replicates
    part = frame[(frame["ablation"] == check.ablation) & (frame["dataset"] == dataset)]
    best: list[pd.Series] = []
    runs: list[str] = []
    for kind in (check.versus, check.arm):
        arms = part[part["arm"].str.split().str[0] == kind]
        if arms.empty or (arms["state"] != "done").any() or arms["evaluate.top1"].isna().any():
            return None, ()
        runs += list(arms["run.evaluate"])
        best.append(arms.loc[arms.groupby("seed")["evaluate.top1"].idxmax()].set_index("seed")["mask.ratio"] * 100)
    if len(best[0]) < 2:
        return None, tuple(runs)
    return over_signs(list(best[0] - best[1].loc[best[0].index])), tuple(runs)


def _judge(claim: Claim, check: Check, dataset: str, found: Difference | None, runs: tuple[str, ...], p_value: float) -> Finding:
    if found is None:
        return Finding(claim, check, dataset, ONE_SEED if runs else NOT_RUN, "", runs)
    verdict = found.verdict_at(p_value)
    status = CALLED.get(verdict.partition(" ")[0], verdict)
    if status != verdict and found.over == "videos":
        status += " by one seed"
    unit = " points of ratio" if check.kind == "lower ratio" else " points"
    half = f" ± {found.half_width:.1f}" if found.half_width is not None else ""
    if check.kind == "lower ratio":
        power = f"; p = {found.p_value:.2g}, of so many seeds {2 ** (1 - found.n):.2g} at least"
    else:
        power = f"; {found.detectable:.1f} would be found" if found.detectable is not None else ""
    numbers = f"{found.points:+.1f}{half}{unit}, n = {found.n} {found.over}{power}"
    return Finding(claim, check, dataset, status, numbers, runs)


def _apart(study: Study, check: Check, dataset: str) -> str:
    """Return in words what else differs between two arms of one masking ratio, or ""."""
    if check.kind != "better":
        return ""
    words = hidden_apart(*(study.finished(check.ablation, dataset, arm) for arm in (check.arm, check.versus)))
    return f"; {words}" if words else ""


def _to_settle(study: Study, check: Check, dataset: str, found: Difference | None, num_comparisons: int) -> str:
    """Return in words how many seeds a difference as large as the paper's would need here; "" where either is not known."""
    if found is None or check.kind != "better" or found.over != "seeds" or not found.detectable:
        return ""
    rows = study.ablation(check.ablation).get("paper_rows", {})
    theirs = [lookup(rows.get(arm), study.paper_name(dataset)) for arm in (check.arm, check.versus)]
    values = [value.value for value in theirs if value is not None and value.value is not None]
    if len(values) < 2 or values[0] == values[1]:
        return ""
    effect = values[0] - values[1]
    return f"{seeds_for(effect, found.detectable, found.n, found.df, num_comparisons)} (for {effect:+.1f})"
