"""What failed outside what is tuned is not held against the values that were tried: it costs a cell no budget and is mended."""

import pytest
from pretended import Pretended, asked, carry_out, finish

from sweeps.searching.space import Range
from sweeps.searching.winner import declaration
from vmae.errors import RunDirError

ARMS = ("tube 0.9", "random 0.9")
PRETRAIN_SPACE = {"pretrain.optim.base_lr": Range(1e-3, 0.256, log=True)}


class Broken(Pretended):
    """The pre-training that comes first fails until it is mended."""

    broken, is_mended = None, False

    def mend(self):
        self.is_mended = True
        self.store.run(self.broken).stopped.unlink()

    def _work(self, made, id_):
        self.broken = self.broken or id_
        if id_ != self.broken or self.is_mended:
            super()._work(made, id_)
        else:
            self.store.run(id_).stop("failed", "CUDA error: uncorrectable ECC error")


def told(store):
    return [[trial["state"] for trial in cell["trials"]] for cell in store.read_search("pretended")["cells"]]


@pytest.mark.parametrize("sampler", ["tpe", "qmc"])
def test_a_shared_pretraining_that_failed_is_no_trial_of_its_cell_that_failed(store, tmp_path, sampler):
    """The other cells go on; mended, the search is the one that nothing disturbed."""
    wanted, execution = asked(trials=8, arms=ARMS, sampler=sampler), Broken(store)
    with pytest.raises(RunDirError, match=r"tube 0.9: pretrain \w+ failed: CUDA error.*after mending: .*--retry") as raised:
        carry_out(store, wanted, execution)
    assert "random" not in str(raised.value)
    broken, other = told(store)
    assert set(broken) == {"RUNNING"}
    assert set(other) == {"COMPLETE"}
    with pytest.raises(RunDirError, match="after mending"):
        carry_out(store, wanted, execution)
    execution.mend()
    carry_out(store, wanted, execution)
    assert told(store) == [["COMPLETE"] * 8] * 2
    undisturbed = type(store)(tmp_path / "undisturbed")
    carry_out(undisturbed, wanted)
    assert store.read_search("pretended")["cells"] == undisturbed.read_search("pretended")["cells"]


def test_a_pretraining_that_is_tuned_is_a_trial_that_failed(store):
    carry_out(store, asked(trials=4, arms=ARMS, space=PRETRAIN_SPACE), Broken(store))
    assert sorted(map(sorted, told(store))) == [["COMPLETE"] * 4, ["COMPLETE"] * 3 + ["FAIL"]]


def test_a_shared_pretraining_that_diverged_is_the_recipes_fault_and_counts(store):
    class Diverging(Broken):
        def _work(self, made, id_):
            self.broken = self.broken or id_
            if id_ == self.broken:
                finish(store, made.runs[id_], "diverged")
            else:
                super()._work(made, id_)

    carry_out(store, asked(trials=4, arms=ARMS), Diverging(store))
    assert told(store) == [["FAIL"] * 4, ["COMPLETE"] * 4]


def test_winners_of_a_cell_in_which_nothing_completed_want_a_search_anew(store):
    carry_out(store, asked(trials=4, arms=ARMS), Pretended(store, outcome=dict.fromkeys(range(4), "failed")))
    summary = store.read_search("pretended")
    assert [cell["best"] is None for cell in summary["cells"]].count(True) == 1
    with pytest.raises(RunDirError, match=r"none of 4 trials completed, the first: finetune .*search pretended --fresh --retry"):
        declaration(summary, store)
