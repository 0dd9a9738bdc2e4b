"""The one-file report: complete in itself, every run id leads to its configuration, text is escaped."""

import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from analysis.html import Section, write_html


class Page(HTMLParser):
    """Tags with their attributes, and the text of each `pre`."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.configs, self._id = [], [], {}, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "details":
            self._id = dict(attrs).get("id")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if self.open and self.open[-1] == "pre":
            self.configs[self._id] = self.configs.get(self._id, "") + data

    def all(self, tag, attribute):
        return [attrs[attribute] for name, attrs in self.tags if name == tag and attribute in attrs]


@pytest.fixture(scope="module")
def page(paper_report):
    return Page(paper_report.html.read_text())


def test_it_is_complete_in_itself(page):
    assert page.open == []
    assert page.all("img", "src")
    assert all(source.startswith("data:image/png;base64,") for source in page.all("img", "src"))
    assert not [tag for tag, _ in page.tags if tag in ("link", "iframe")]
    assert not page.all("script", "src")


def test_every_run_id_leads_to_its_configuration(page, paper_study):
    links = [href.removeprefix("#") for href in page.all("a", "href")]
    cells = paper_study.plan["cells"]
    assert {f"run-{r['runs']['evaluate']}" for cell in cells for r in cell["replicates"]} == set(links)
    assert set(links) <= set(page.configs)
    assert {id_.removeprefix("run-") for id_ in page.configs} == set(paper_study.plan["runs"])
    for id_, text in page.configs.items():
        assert json.loads(text)["config"] == paper_study.plan["runs"][id_.removeprefix("run-")]["config"]


def test_text_is_text_and_markdown_is_markup(tmp_path):
    table = pd.DataFrame([{"arm": "<b> & c", "top-1 %": "1.0"}])
    section = Section("a < b", 2, ["**bold** and *soft*, 2 * 3 * 4, x_1", "- one\n- two"], tables=[table])
    text = write_html("t", [section], tmp_path / "a.html").read_text()
    assert "<h2>a &lt; b</h2>" in text
    assert "<td>&lt;b&gt; &amp; c</td>" in text
    assert "<strong>bold</strong> and <em>soft</em>, 2 * 3 * 4, x_1" in text
    assert "<ul><li>one</li><li>two</li></ul>" in text
    assert not re.search(r"https?://", text)
