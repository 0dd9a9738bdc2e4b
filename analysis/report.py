"""reports/<sweep>/: report.md, report.html, findings.md, tables, figures; of finished runs alone, the same bytes every time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.collect import Study, where_from
from analysis.drawing import Drawn, drawing
from analysis.findings import Finding, as_table, findings, page, summary
from analysis.formats import latex, markdown, pretraining_table, results_table
from analysis.html import Section, config_details, write_html
from analysis.table import cell_table
from analysis.words import in_words, legend
from vmae.errors import ResultsError
from vmae.runs import STATES
from vmae.runtime import num_cpus

SYNTHETIC = "SYNTHETIC: numbers made up to try the analysis; nothing here was measured."


@dataclass(frozen=True)
class Report:
    """Where a report stands, its tables as text and its figures."""

    file: Path
    html: Path
    tables: tuple[str, ...]
    drawn: tuple[Drawn, ...]

    @property
    def ratio_plots(self) -> tuple[Path, ...]:
        """The plots of accuracy over masking ratio."""
        return tuple(d.files[0] for d in self.drawn if d.kind == "ratio")


def write_report(study: Study, folder: Path) -> Report:
    """Write the report of a sweep; ResultsError (what is missing) if no cell is finished."""
    with drawing(study, folder / "figures", num_workers=num_cpus()) as draw:
        cells = cell_table(study)
        if not (cells["num_seeds"] > 0).any():
            raise ResultsError(
                f"sweep {study.name}: no cell is finished ({_counts(study)}); run it with: python -m sweeps submit {study.name}"
            )
        (folder / "tables").mkdir(parents=True, exist_ok=True)
        wait_for_figures = draw(cells)
        found = findings(study)
        (folder / "findings.md").write_text(page(study, found), encoding="utf-8")
        answers = {
            (ablation, dataset): _answer(study, study.ablation(str(ablation)), str(dataset), part, folder)
            for (ablation, dataset), part in cells.groupby(["ablation", "dataset"], sort=False)
        }
        runs = config_details(study)
        drawn = wait_for_figures()
    sections = [_head(study)]
    for ablation in study.plan["ablations"]:
        sections.append(_question(ablation))
        for table, (section, _) in answers.items():
            if table[0] == ablation["name"]:
                sections.append(replace(section, figures=[d for d in drawn if (d.ablation, d.dataset) == table]))
    sections += [_pretraining(drawn), _provenance(study)]
    file = folder / "report.md"
    file.write_text("\n".join(line for section in sections for line in section.markdown(folder)) + "\n", encoding="utf-8")
    html = write_html(_title(study), [*sections, _findings(study, found), runs], folder / "report.html")
    return Report(file, html, tuple(text for _, text in answers.values()), tuple(drawn))


def _title(study: Study) -> str:
    return f"{study.name} (SYNTHETIC)" if study.is_synthetic else study.name


def _head(study: Study) -> Section:
    lines = [str(study.plan["purpose"]), f"Runs: {_counts(study)}. Claims judged by these runs: findings."]
    if study.is_synthetic:
        lines.insert(0, f"**{SYNTHETIC}**")
    if overrides := study.plan.get("set"):
        lines.append(f"**Not as declared:** {', '.join(f'{path} = {value}' for path, value in overrides.items())} (`--set`).")
    lines += [f"Cannot be used: {problem}." for problem in study.problems]
    return Section(_title(study), 1, lines)


def _question(ablation: Mapping[str, Any]) -> Section:
    return Section(ablation["question"], 2, [f"*Expected* ({ablation['paper']}): {ablation['expected']}"])


def _answer(study: Study, ablation: Mapping[str, Any], dataset: str, part: pd.DataFrame, folder: Path) -> tuple[Section, str]:
    """Write one table's files and return its section without figures, and its text for the terminal."""
    stem = f"{ablation['name']}-{dataset}"
    shown = results_table(part, study.paper_name(dataset))
    part.to_csv(folder / "tables" / f"{stem}.csv", index=False, lineterminator="\n")
    note = f"% {SYNTHETIC}\n" if study.is_synthetic else ""
    (folder / "tables" / f"{stem}.tex").write_text(f"{note}{latex(shown)}\n", encoding="utf-8")
    (folder / "tables" / f"{stem}.md").write_text(f"{markdown(shown)}\n", encoding="utf-8")
    trained = pretraining_table(part)
    section = Section(
        dataset,
        3,
        [*in_words(study, ablation, part), legend(study, part, ablation["baseline"], dataset)],
        tables=[shown, *([trained] if len(trained) else [])],
        footer=[f"With run ids: tables/{stem}.csv; for a paper: tables/{stem}.tex."],
        runs=[id_ for ids in part["runs"] for id_ in ids.split()],
    )
    return section, f"{ablation['name']}, {dataset}\n\n{markdown(shown)}"


def _pretraining(drawn: list[Drawn]) -> Section:
    return Section("Pre-training", 2, [], figures=[d for d in drawn if d.ablation is None])


def _findings(study: Study, found: Sequence[Finding]) -> Section:
    return Section("Findings", 2, [summary(study, found)], tables=[as_table(found).drop(columns="runs")])


def _counts(study: Study) -> str:
    states = list(study.states.values())
    return ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)


def _provenance(study: Study) -> Section:
    lines = [
        *where_from(study.results.values(), study.plan["seeds"]),
        "Each cell's run ids are in its csv; a run's config, metrics and result are in the run directory of that name.",
    ]
    return Section("Where this comes from", 2, ["\n".join(f"- {line}" for line in lines)])
