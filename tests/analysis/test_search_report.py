"""A search's page: shared beside tuned with the budget, every trial, failed ones without a number, figures, importances."""

import pytest
from pretended import Pretended, asked, carry_out

from analysis.search import cells_frame, importances, trials_frame, write_search
from sweeps.searching.space import Choice, Range
from vmae.errors import ResultsError


def test_the_page_tells_shared_tuned_budget_and_every_trial(store, tmp_path):
    carry_out(store, asked(trials=16), Pretended(store, outcome={3: "failed"}))
    summary = store.read_search("pretended")
    page = write_search(store, "pretended", tmp_path / "page").read_text()
    (cell,) = cells_frame(summary).to_dict("records")
    values = trials_frame(summary)["value"]
    assert cell["shared recipe"] == f"{values[0]:.2f}"
    assert cell["tuned"] == f"{values.max():.2f}"
    assert cell["budget"] == "16 of 16 trials, 1 failed"
    assert "nan" not in page
    assert "pretended to fail" in page
    assert len(list((tmp_path / "page" / "figures").glob("*.png"))) == 3
    shares = importances(summary, summary["cells"][0])
    assert sum(shares.values()) == pytest.approx(1.0)
    assert "Importance" in page


def test_a_search_that_is_not_there_is_named(store):
    with pytest.raises(ResultsError, match="no search 'other'"):
        store.read_search("other")


def test_choices_of_words_are_told_like_numbers(store, tmp_path):
    space = {"finetune.optim.base_lr": Range(1e-3, 5e-2, log=True), "finetune.init": Choice(("xavier", "trunc_normal"))}
    carry_out(store, asked(trials=14, space=space))
    summary = store.read_search("pretended")
    page = write_search(store, "pretended", tmp_path / "page").read_text()
    assert "finetune.init = xavier" in page or "finetune.init = trunc_normal" in page
    shares = importances(summary, summary["cells"][0])
    assert shares["finetune.optim.base_lr"] > shares["finetune.init"], "the pretended objective does not know init"
