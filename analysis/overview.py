"""What several studies together say of each claim, the first that made a comparison on a data set, and what would settle it."""

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from analysis.claims import CLAIMS, Check, Claim
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
        studies: in the order in which they are asked; of each comparison on a data set the first that made it speaks.
        links: where the report of each lies.
    """
    found = [(link, findings(study)) for study, link in zip(studies, links, strict=True)]
    rows = []
    for claim in CLAIMS:
        said = _first_to_say(claim, found)
        asked = [f for _, every in found for f in every if f.claim == claim and f.check]
        named = _on_several(asked)
        seen = [f"{link}: {'<br>'.join(_seen(f, named) for f in part)}" for link, part in said.items()]
        made = {(f.check, f.dataset) for part in said.values() for f in part}
        seen += dict.fromkeys(_seen(f, named) for f in asked if (f.check, f.dataset) not in made)
        seeds = [line for part in said.values() for line in _seeds(part, named)]
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
    """Return a claim's findings by the link of the study that speaks: of each comparison on a data set the first with numbers."""
    said: dict[str, list[Finding]] = {}
    for check in claim.checks:
        heard: set[str] = set()
        for link, every in found:
            new = [f for f in every if f.claim == claim and f.check == check and f.numbers and f.dataset not in heard]
            heard |= {f.dataset for f in new}
            if new:
                said.setdefault(link, []).extend(new)
    return said


def _on_several(findings: Sequence[Finding]) -> set[Check]:
    """Return the comparisons that were made on more than one data set, each of which has to be named."""
    made = Counter(check for check, _ in {(f.check, f.dataset) for f in findings if f.check})
    return {check for check, num in made.items() if num > 1}


def _seen(finding: Finding, named: set[Check]) -> str:
    """Return what a finding says, with the data set where its comparison was made on several."""
    numbers = f" ({finding.numbers})" if finding.numbers else ""
    return f"{_what(finding)}{_where(finding, named)}: **{finding.status}**{numbers}"


def _what(finding: Finding) -> str:
    assert finding.check is not None
    return finding.check.text


def _where(finding: Finding, named: set[Check]) -> str:
    return f", {finding.dataset}" if finding.check in named else ""


def _seeds(part: Sequence[Finding], named: set[Check]) -> list[str]:
    settled = []
    for finding in part:
        if finding.to_settle and finding.check is not None:
            seeds, _, effect = finding.to_settle.partition(" ")
            pair = f"{finding.check.arm} against {finding.check.versus}{_where(finding, named)}"
            settled.append(f"{pair}: {seeds} seeds of this size {effect}")
    return settled


def _commands(claim: Claim) -> list[str]:
    sweeps = dict.fromkeys(AT_THE_PAPERS_SCALE.get(check.ablation, ALL) for check in claim.checks)
    return [f"`python -m sweeps submit {name} --preset paper --profile slurm`" for name in sweeps]
