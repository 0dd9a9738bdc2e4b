"""What a plan's tables do not say and its reader should know: overrides without effect, arms that are one, rounded ratios."""

from vmae.config import PretrainConfig, PretrainRun
from vmae.study import Plan

MIN_ROUNDING = 0.005  # of a mask ratio


def remarks(plan: Plan) -> list[str]:
    """Return one sentence each."""
    return [*plan.overruled, *_twins(plan), *_rounded_ratios(plan)]


def _twins(plan: Plan) -> list[str]:
    found: dict[tuple[str, str, str], list[str]] = {}
    for cell in plan.cells:
        found.setdefault((cell.ablation, cell.dataset, cell.cell_id), []).append(cell.arm)
    return [
        f"{ablation} on {dataset}: arms {' and '.join(arms)} come to the same runs"
        for (ablation, dataset, _), arms in found.items()
        if len(arms) > 1
    ]


def _rounded_ratios(plan: Plan) -> list[str]:
    """Return which mask ratios the grid cannot hide as asked, as one sentence."""
    found = set()
    for run in plan.runs.values():
        if isinstance(run, PretrainRun) and isinstance(run.pretrain, PretrainConfig) and run.pretrain.mask.count == "fixed":
            asked, hides = run.pretrain.mask.ratio, run.pretrain.mask.num_hidden(run.grid) / run.grid.num_cubes
            found |= {(asked, hides)} if abs(asked - hides) > MIN_ROUNDING else set()
    words = [f"{asked:g} hides {hides:.3f}" for asked, hides in sorted(found)]
    return [f"mask ratios that the grid rounds: {', '.join(words)} of the cubes"] if words else []
