"""Two arms beside each other, in sentences: what each reached, how sure their difference is, in what they differ."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.collect import Study
from analysis.compare import POWER, bootstrap, estimate, over_videos
from analysis.table import difference, paired_predictions
from analysis.words import how_judged
from vmae.errors import ResultsError, near
from vmae.recipe import leaves


def compare_arms(study: Study, arm: str, other: str, ablation: str | None = None, dataset: str | None = None) -> Iterator[str]:
    """Yield the lines of `compare`, for each table that has both arms.

    Raises ResultsError for unknown names with the near word, one arm given twice, and where no table has both arms.
    """
    frame = study.replicates
    if arm == other:
        raise ResultsError(f"{arm!r} beside itself; give two arms of {study.name}")
    for column, wanted in (("ablation", ablation), ("dataset", dataset), ("arm", arm), ("arm", other)):
        if wanted is not None and wanted not in (known := sorted(set(frame[column]))):
            raise ResultsError(f"{study.name} has no {column} {wanted!r}{near(wanted, known)}")
    is_found = False
    for (question, data), part in frame.groupby(["ablation", "dataset"], sort=False):
        chosen = ablation in (None, question) and dataset in (None, data) and {arm, other} <= set(part["arm"])
        if chosen:
            is_found = True
            yield f"{question}, {data}"
            yield from (f"  {line}" for line in _compare(study, str(question), str(data), arm, other))
    if not is_found:
        raise ResultsError(f"no table of {study.name} has both {arm!r} and {other!r}")


def _compare(study: Study, ablation: str, dataset: str, arm: str, other: str) -> Iterator[str]:
    done = [study.finished(ablation, dataset, name) for name in (arm, other)]
    for name, part in zip((arm, other), done, strict=True):
        found = estimate(list(part["evaluate.top1"])) if len(part) else None
        yield f"{name}: top-1 {found.text()} %" if found else f"{name}: no finished run"
    if any(part.empty for part in done):
        return
    pairs = done[0].merge(done[1], on="seed", suffixes=("", ".other"))
    over = difference(study, done[0], done[1]) if len(pairs) >= 2 else None
    if over is not None and over.over == "seeds":  # not where an evaluation has no number
        yield (
            f"over {over.n} seeds: {over.points:+.2f} ± {over.half_width:.2f} points, {how_judged(study, dataset)}, "
            f"p = {over.p_value:.3g}: {over.verdict}, this comparison alone; a true difference of {over.detectable:.2f} would "
            f"be found in {POWER:.0%} of such experiments"
        )
    for pair in pairs.to_dict("records"):
        yield _over_videos(study, pair)
    yield from _settings(study, pairs)


def _over_videos(study: Study, pair: Mapping[Any, Any]) -> str:
    right = paired_predictions(study, str(pair["run.evaluate"]), str(pair["run.evaluate.other"]))
    found, (low, high) = over_videos(*right), bootstrap(*right)
    return (
        f"seed {pair['seed']}, over {found.n} videos: {found.points:+.2f} points, McNemar p = {found.p_value:.3g}, paired "
        f"bootstrap {low:+.2f} to {high:+.2f}: {found.verdict}"
    )


def _settings(study: Study, pairs: pd.DataFrame) -> Iterator[str]:
    if pairs.empty:
        return
    first = pairs.iloc[0]
    a, b = (leaves(study.run_dir(str(first[f"run.evaluate{end}"])).load(check=False)) for end in ("", ".other"))
    for path in dict.fromkeys(_part(path, a, b) for path in sorted(set(a) | set(b))):
        one, other = (leaves.get(path, "absent" if not _below(path, leaves) else "set") for leaves in (a, b))
        if one != other:
            yield f"setting {path}: {one} against {other}"


def _part(path: str, a: Collection[str], b: Collection[str]) -> str:
    """Return the outermost section around a setting that one of two configs lacks, or the setting."""
    words = path.split(".")
    sections = (".".join(words[:number]) for number in range(1, len(words)))
    return next((section for section in sections if not (_below(section, a) and _below(section, b))), path)


def _below(section: str, settings: Iterable[str]) -> bool:
    return any(setting.startswith(f"{section}.") for setting in settings)
