"""What several studies together say of each claim: of each comparison the first that made it, and what would settle it."""

from collections.abc import Sequence

import pandas as pd

from analysis.claims import CLAIMS, Claim
from analysis.collect import Study
from analysis.findings import Finding, findings, unasked

# The sweep that asks an ablation on the paper's data at the paper's scale; tests hold that it does.
AT_THE_PAPERS_SCALE = {
    "methods": "paper_tables234",
    "pretrain_strategy": "paper_table1",
    "mask_sampling": "paper_table1",
    "pretrain_dataset": "paper_table1",
    "loss": "paper_table1",
    "decoder_depth": "paper_table1",
    "data_size": "figures",
    "quality_vs_quantity": "figures",
    "image_vs_video_ratio": "figures",
    "mask_ratio": "figures",
    "small_data": "small_data",
}
ALL = "everything"


def overview(studies: Sequence[Study], links: Sequence[str]) -> pd.DataFrame:
    """Return a row per claim: the paper's evidence, what was seen and where, what would settle it.

    Args:
        studies: in the order in which they are asked; of each comparison the first that made it speaks.
        links: where the report of each lies.
    """
    found = [(link, findings(study)) for study, link in zip(studies, links, strict=True)]
    rows = []
    for claim in CLAIMS:
        said = _first_to_say(claim, found)
        seen = [f"{link}: {'<br>'.join(_seen(part))}" for link, part in said.items()]
        made = {finding.check for part in said.values() for finding in part}
        missing = [f for _, every in found for f in every if f.claim == claim and f.check and f.check not in made]
        seen += dict.fromkeys(f"{_what(finding)}: **{finding.status}**" for finding in missing)
        seeds = [line for part in said.values() for line in _seeds(part)]
        rows.append(
            {
                "claim": f"**{claim.id}** {claim.statement}",
                "the paper's evidence": claim.evidence,
                "seen here": "<br>".join(seen) or unasked(claim),
                "to settle it": "<br>".join([*seeds, *_commands(claim)]),
            }
        )
    return pd.DataFrame(rows)


def _first_to_say(claim: Claim, found: Sequence[tuple[str, Sequence[Finding]]]) -> dict[str, list[Finding]]:
    """Return a claim's findings by the link of the study that speaks: of each comparison the first with numbers."""
    said: dict[str, list[Finding]] = {}
    for check in claim.checks:
        made = [(link, [f for f in every if f.claim == claim and f.check == check]) for link, every in found]
        speaks = next(((link, part) for link, part in made if any(f.numbers for f in part)), None)
        if speaks:
            said.setdefault(speaks[0], []).extend(speaks[1])
    return said


def _seen(part: Sequence[Finding]) -> list[str]:
    """Return what a study says of a claim, with the data set where one comparison was made on several."""
    return [f"{_what(f)}{_where(f, part)}: **{f.status}**{f' ({f.numbers})' if f.numbers else ''}" for f in part]


def _what(finding: Finding) -> str:
    assert finding.check is not None
    return finding.check.text


def _where(finding: Finding, part: Sequence[Finding]) -> str:
    is_alone = len({f.dataset for f in part if f.check == finding.check}) == 1
    return "" if is_alone else f", {finding.dataset}"


def _seeds(part: Sequence[Finding]) -> list[str]:
    settled = []
    for finding in part:
        if finding.to_settle and finding.check is not None:
            seeds, _, effect = finding.to_settle.partition(" ")
            pair = f"{finding.check.arm} against {finding.check.versus}{_where(finding, part)}"
            settled.append(f"{pair}: {seeds} seeds of this size {effect}")
    return settled


def _commands(claim: Claim) -> list[str]:
    sweeps = dict.fromkeys(AT_THE_PAPERS_SCALE.get(check.ablation, ALL) for check in claim.checks)
    return [f"`python -m sweeps submit {name} --preset paper --profile slurm`" for name in sweeps]
