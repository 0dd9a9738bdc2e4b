"""Table 1 with the paper's own values, synthetic and marked so; written once."""

import pytest

from analysis.collect import load_study
from analysis.report import write_report
from benchmarks.synthetic_runs import finish, of_the_paper
from sweeps import registry
from vmae.runs import Store
from vmae.study import make_plan


@pytest.fixture(scope="session")
def paper_plan():
    return make_plan(registry.load("paper_table1", "paper"))


@pytest.fixture(scope="session")
def paper_study(paper_plan, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("paper") / "runs")
    finish(store, paper_plan, of_the_paper(paper_plan))
    return load_study(store, "paper_table1-paper")


@pytest.fixture(scope="session")
def paper_report(paper_study, tmp_path_factory):
    return write_report(paper_study, tmp_path_factory.mktemp("report"))
