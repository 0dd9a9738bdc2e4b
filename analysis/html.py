"""One self-contained HTML file: tables that sort, figures inline, every run id leading to its configuration. Opens from disk."""

import base64
import html
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from analysis.collect import Study
from analysis.drawing import Drawn
from analysis.formats import markdown
from vmae.files import write_atomic

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.85rem; display: block; overflow-x: auto; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
td { white-space: normal; max-width: 22rem; }
th:first-child, td:first-child { text-align: left; }
th { cursor: pointer; border-bottom: 2px solid var(--line); }
th[data-order]::after { content: " \\2191"; }
th[data-order="-1"]::after { content: " \\2193"; }
figure { margin: 1.5rem 0; } figure img { max-width: 100%; background: white; }
figcaption, .note { font-size: 0.85rem; opacity: 0.8; }
details { margin: 0.3rem 0; } pre { background: var(--soft); padding: 0.6rem; overflow-x: auto; font-size: 0.75rem; }
code, .runs a { font-family: ui-monospace, monospace; font-size: 0.8rem; }
@media print { body { max-width: none; } details:not([open]) { display: none; } table { font-size: 0.7rem; } }
"""
SCRIPT = """
const number = text => { const found = text.replaceAll(",", "").match(/^[+-]?\\d+(\\.\\d+)?/); return found ? +found[0] : null; };
document.querySelectorAll("th").forEach(head => head.addEventListener("click", () => {
  const table = head.closest("table"), body = table.tBodies[0], column = head.cellIndex;
  const order = head.dataset.order === "1" ? -1 : 1;
  table.querySelectorAll("th").forEach(other => delete other.dataset.order);
  head.dataset.order = order;
  const key = row => { const text = row.cells[column].textContent; return [number(text), text]; };
  const numbers = (a, b) => a === null ? 1 : b === null ? -1 : order * (a - b);
  const compare = ([a, s], [b, t]) => a === null && b === null ? order * s.localeCompare(t) : numbers(a, b);
  [...body.rows].map(row => [key(row), row]).sort((a, b) => compare(a[0], b[0])).forEach(([, row]) => body.append(row));
}));
document.querySelectorAll("details > pre").forEach(text => text.parentElement.addEventListener("toggle", () => {
  try { text.textContent = JSON.stringify(JSON.parse(text.textContent), null, 1); } catch { /* NaN, which is no JSON */ }
}));
const show = () => {
  const aim = document.getElementById(location.hash.slice(1));
  if (aim?.tagName === "DETAILS") aim.open = true;
};
addEventListener("hashchange", show); show();
"""


@dataclass(frozen=True)
class Section:
    """A part of a report, as markdown and as HTML.

    Attributes:
        paragraphs: markdown: plain text, **bold**, *italic*, and lists of "- " lines.
        footer: paragraphs that name files beside report.md, so only there.
        runs: ids that a reader may want the configuration of.
        details: {run id: text} of a section that holds those configurations; only in the HTML.
    """

    title: str
    level: int
    paragraphs: Sequence[str]
    tables: Sequence[pd.DataFrame] = ()
    figures: Sequence[Drawn] = ()
    footer: Sequence[str] = ()
    runs: Sequence[str] = ()
    details: dict[str, str] = field(default_factory=dict)

    def markdown(self, folder: Path) -> Iterator[str]:
        """Yield the lines of report.md in `folder`."""
        yield from ("#" * self.level + " " + self.title, "")
        blocks = [*self.paragraphs, *(markdown(table) for table in self.tables)]
        blocks += [f"![{d.title}]({d.files[0].relative_to(folder)})\n\n{d.caption}" for d in self.figures]
        for block in [*blocks, *self.footer]:
            yield from (block, "")

    def html(self) -> Iterator[str]:
        """Yield the section's elements."""
        yield f"<h{self.level}>{html.escape(self.title)}</h{self.level}>"
        for paragraph in self.paragraphs:
            yield _paragraph(paragraph)
        for table in self.tables:
            yield _table(table)
        for drawn in self.figures:
            yield _figure(drawn)
        if self.runs:
            links = " ".join(f'<a href="#run-{id_}">{html.escape(id_)}</a>' for id_ in self.runs)
            yield f'<details class="runs"><summary>{len(self.runs)} runs behind this table</summary>{links}</details>'
        for id_, text in self.details.items():
            yield f'<details id="run-{html.escape(id_)}"><summary><code>{html.escape(id_)}</code></summary>'
            yield f"<pre>{html.escape(text)}</pre></details>"


def config_details(study: Study) -> Section:
    """Return the section that holds every planned run's configuration, and the provenance of the finished ones."""
    details = {}
    for id_, run in study.plan["runs"].items():
        result = study.results.get(id_)
        found = {"state": study.states[id_], "stage": run["stage"], "parent": run["parent"], "config": run["config"]}
        if result:
            found |= {"metrics": result.metrics, "compute": result.compute, "provenance": result.provenance}
        details[id_] = json.dumps(found, sort_keys=True)
    return Section("Runs", 2, [f"{len(details)} runs, each with its whole configuration."], details=details)


def write_html(title: str, sections: Sequence[Section], file: Path) -> Path:
    """Write a self-contained page: no request leaves it."""
    body = "\n".join(element for section in sections for element in section.html())
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    page = f"<!doctype html><html lang=en><head>{head}<style>{STYLE}</style></head>\n<body>\n{body}\n<script>{SCRIPT}</script>"
    write_atomic(file, f"{page}</body></html>\n".encode())
    return file


def _paragraph(text: str) -> str:
    lines = text.splitlines()
    if lines and all(line.startswith("- ") for line in lines):
        return "<ul>" + "".join(f"<li>{_inline(line[2:])}</li>" for line in lines) + "</ul>"
    return f"<p>{_inline(' '.join(lines))}</p>"


def _inline(text: str) -> str:
    escaped = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(text))
    return re.sub(r"(?<!\w)\*(\S|\S.*?\S)\*(?!\w)", r"<em>\1</em>", escaped)


def _table(frame: pd.DataFrame) -> str:
    head = "".join(f"<th>{html.escape(str(column))}</th>" for column in frame.columns)
    rows = ("".join(f"<td>{html.escape(str(value))}</td>" for value in row) for row in frame.values.tolist())
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{row}</tr>' for row in rows)}</tbody></table>"


def _figure(drawn: Drawn) -> str:
    content = base64.b64encode(next(f for f in drawn.files if f.suffix == ".png").read_bytes()).decode()
    image = f'<img alt="{html.escape(drawn.title)}" src="data:image/png;base64,{content}">'
    return f"<figure>{image}<figcaption>{html.escape(drawn.caption)}</figcaption></figure>"
