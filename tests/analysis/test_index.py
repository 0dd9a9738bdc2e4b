"""The index of all runs: read once, read again when changed, the same however it came about; what is unusable is named."""

import json
import shutil

import pandas as pd
import pytest
import synthetic as made

from analysis.index import collect_runs
from vmae.errors import ResultsError
from vmae.study import make_plan


@pytest.fixture
def root(store):
    made.finish(store, make_plan(made.sweep()), lambda arm, seed: 50.0)
    return store.root


def results(root):
    return sorted(root.glob("*/result.json"))


def test_only_what_changed_is_read_again(root):
    num = len(results(root))
    assert (collect_runs(root).num_read, collect_runs(root).num_read) == (num, 0)
    file = results(root)[3]
    text = file.read_text().replace('"top1": 50.0', '"top1": 51.25')
    file.write_text(text + "\n")
    found = collect_runs(root)
    assert found.num_read == 1
    shutil.rmtree(file.parent)
    assert set(collect_runs(root).frame.index) == {f.parent.name for f in results(root)}


def test_it_is_tidy(root):
    frame = collect_runs(root).frame
    assert frame["metrics.top1"].dropna().eq(50.0).all()
    assert set(frame["stage"]) == {"pretrain", "finetune", "evaluate"}
    masks = frame.loc[frame["stage"] == "pretrain", "config.pretrain.mask.kind"]
    assert set(masks) == {"tube", "random", "frame"}
    assert frame["provenance.commit"].eq("c0ffee").all()


def test_piece_by_piece_equals_at_once(root, tmp_path):
    hidden = [f.parent for f in results(root)[::2]]
    for folder in hidden:
        folder.rename(tmp_path / folder.name)
    collect_runs(root)
    for folder in hidden:
        (tmp_path / folder.name).rename(folder)
    pieces = collect_runs(root).frame
    (root / "index.parquet").unlink()
    pd.testing.assert_frame_equal(pieces, collect_runs(root).frame)


def test_a_column_of_several_kinds_is_text_with_gaps_however_it_came_about(root):
    told = dict(zip(results(root), (1, 2.5, 3, "tube", None), strict=False))
    for number, (file, value) in enumerate(told.items()):
        values = json.loads(file.read_text())
        file.write_text(json.dumps(values | {"metrics": values["metrics"] | {"odd": value, "whole": number}}))
        pieces = collect_runs(root).frame
    (root / "index.parquet").unlink()
    at_once = collect_runs(root).frame
    assert at_once["metrics.odd"].dropna().to_dict() == {f.parent.name: str(v) for f, v in told.items() if v is not None}
    assert at_once["metrics.whole"].dropna().to_dict() == {file.parent.name: float(n) for n, file in enumerate(told)}
    assert len(at_once) > len(told), "the others have neither"
    pd.testing.assert_frame_equal(pieces, at_once)


def test_a_damaged_index_is_made_anew(root):
    before = collect_runs(root).frame
    (root / "index.parquet").write_bytes(b"PAR1 and no more")
    found = collect_runs(root)
    assert found.num_read == len(before)
    pd.testing.assert_frame_equal(found.frame, before)


def test_what_cannot_be_used_is_named_and_the_rest_is_kept(root):
    damaged, copied, partial = results(root)[:3]
    damaged.write_text(damaged.read_text()[:100])
    copied.write_text(partial.read_text())
    values = json.loads(partial.read_text())
    del values["metrics"]
    partial.write_text(json.dumps(values))
    (root / "holiday photos").mkdir()
    (root / "0123456789abcdef").mkdir()
    (root / "0123456789abcdef" / "adopted.json").write_text("{}")
    found = collect_runs(root)
    problems = "\n".join(found.problems)
    assert f"{damaged.parent}: result.json or config.json is half-written or damaged" in problems
    assert f"{copied.parent}: result.json is of run {partial.parent.name}: it was copied here" in problems
    assert f"{partial.parent}: has no 'metrics'" in problems
    assert "holiday photos: no config.json, so it is no run" in problems
    assert len(found.problems) == 4, "an adopted run is no foreign folder"
    assert len(found.frame) == len(results(root)) - 3


@pytest.mark.parametrize("text", ["[]", '{"metrics": [1]}', '{"compute": null}', '{"provenance": 3}', "[" * 100_000], ids=len)
@pytest.mark.parametrize("name", ["result.json", "config.json"])
def test_a_file_of_another_shape_stops_nothing(root, name, text):
    file = results(root)[0].parent / name
    values = json.loads(file.read_text())
    is_part = text.startswith("{")
    file.write_text(json.dumps(values | json.loads(text)) if is_part else text)
    found = collect_runs(root)
    is_usable = is_part and name == "config.json"  # a config holds whatever a run was given
    assert len(found.frame) == len(results(root)) - (not is_usable)
    assert [problem.split(": ")[0] for problem in found.problems] == [str(file.parent)] * (not is_usable)


def test_it_can_be_taken_elsewhere(root, tmp_path):
    found = collect_runs(root)
    found.export(tmp_path / "all.csv")
    found.export(tmp_path / "all.parquet")
    assert list(pd.read_csv(tmp_path / "all.csv", index_col=0).index) == list(found.frame.index)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "all.parquet"), found.frame)
    with pytest.raises(ResultsError, match=r"cannot write '\.parket'\. Did you mean '\.parquet'"):
        found.export(tmp_path / "all.parket")


def test_no_store_no_index(tmp_path):
    with pytest.raises(ResultsError, match="no runs at"):
        collect_runs(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert collect_runs(tmp_path / "empty").frame.empty
