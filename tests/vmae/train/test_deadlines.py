"""A decoder that spins, hangs or crashes costs a run one clip and one deadline; what is left is the run without that video."""

import ctypes
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from helpers import run_chain
from miniatures import scene, write_video

from vmae.data import cache, guarded
from vmae.data.embedded import DOMAINS, manifest_file
from vmae.data.guarded import SHARED, GuardedDecoder
from vmae.data.manifest import beside, read_manifest
from vmae.data.quarantine import Quarantined, read_quarantine, write_quarantine
from vmae.data.scan import scan
from vmae.data.source import frames_of
from vmae.data.video import Late, OwnDecoder, read_video
from vmae.runs import Store

real_work, real_decode = guarded._work, cache._decode_into


def spin_with_the_lock():
    ctypes.PyDLL(None).pause()


def work(prefix, request):
    """What a decoding process does, but for two videos: runs in that process."""
    if request[0].name == "00003.mp4" and request[2] is not None:
        spin_with_the_lock()
    if request[0].name == "00005.mp4" and request[2] is not None:
        os.kill(os.getpid(), signal.SIGSEGV)
    return real_work(prefix, request)


def decode_into(array_file, shape, backend, task):
    if task[1].name == "00003.mp4":
        spin_with_the_lock()
    return real_decode(array_file, shape, backend, task)


@pytest.fixture
def own_set(tmp_path, data_root):
    """An embedded set of this test's own, since its quarantine is written to."""
    shutil.copytree(data_root / "embedded", tmp_path / "data" / "embedded")
    return tmp_path / "data"


@pytest.fixture
def place(runtime, own_set):
    return runtime.model_copy(
        update={"cache": False, "max_quarantined": 0.25, "data_root": str(own_set), "decode_timeout_s": 2.0}
    )


def pretrain_list(place, recipe):
    data = recipe.pretrain.data
    return manifest_file(Path(place.data_root), data.size, data.seed, DOMAINS["moving"][0], "moving")


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_run_is_the_one_without_the_video(recipe, store, place, tmp_path, monkeypatch, num_workers):
    place = place.model_copy(update={"num_workers": num_workers})
    file = pretrain_list(place, recipe)
    names = [row.path for row in read_manifest(file).select("pretrain") if Path(row.path).name in ("00003.mp4", "00005.mp4")]
    write_quarantine(file, [Quarantined(path, "a test", "hand") for path in names])
    without = run_chain(store, recipe, place, upto="pretrain")["pretrain"]
    beside(file, "quarantine.csv").unlink()

    monkeypatch.setattr("vmae.data.guarded._work", work)
    other = Store(tmp_path / "other")
    hung = run_chain(other, recipe, place, upto="pretrain")["pretrain"]
    assert hung.compute["num_replaced"] == without.compute["num_replaced"] == 2 * recipe.pretrain.optim.epochs
    assert store.run(without.run_id).weights.read_bytes() == other.run(hung.run_id).weights.read_bytes()
    found = read_quarantine(file)
    assert {path: row.by for path, row in found.items() if path in names} == dict.fromkeys(names, "training")
    assert found[names[0]].reason == "not done after 2 s; its process was killed"
    assert "SIGSEGV" in found[names[1]].reason
    assert not list(SHARED.glob(f"vmae-frames-{os.getpid()}-*"))


def test_an_evaluation_names_it(recipe, store, place, monkeypatch):
    run_chain(store, recipe, place, upto="finetune")
    monkeypatch.setattr("vmae.data.guarded._work", work)
    metrics = run_chain(store, recipe, place)["evaluate"].metrics
    assert metrics["num_expected"] - metrics["num_scored"] == 2
    assert any("00003.mp4: not done after 2 s" in reason for reason in metrics["unread"])


def test_a_scan_has_the_last_word(recipe, place):
    file = pretrain_list(place, recipe)
    path = read_manifest(file).select("pretrain")[3].path
    assert not scan(file, num_workers=2, progress=False).bad
    by_hand = read_manifest(file).select("pretrain")[4].path
    write_quarantine(file, [Quarantined(path, "slow disk", "training"), Quarantined(by_hand, "ugly", "hand")])
    again = scan(file, num_workers=1, progress=False)
    assert again.num_decoded == 1, "what training doubted is looked at, the rest is known"
    assert set(read_quarantine(file)) == {by_hand}


def test_a_quarantine_that_cannot_be_written_is_said_and_heeded(recipe, place, monkeypatch, capsys):
    monkeypatch.setattr("vmae.data.guarded._work", work)
    file = pretrain_list(place, recipe)
    beside(file, "quarantine.lock").mkdir()
    source = frames_of(read_manifest(file), "pretrain", place)
    with pytest.raises(Late, match=r"00003\.mp4: not done after 2 s"):
        source.read(3, lambda _: np.zeros((1, 4), int))
    assert "00003.mp4 is left out" in capsys.readouterr().out
    assert set(source.bad) == {3}
    assert source.read(4, lambda _: np.zeros((1, 4), int)).shape[:2] == (1, 4)


def test_what_another_process_sets_aside_is_not_opened(recipe, place):
    file = pretrain_list(place, recipe)
    manifest = read_manifest(file)
    source = frames_of(manifest, "pretrain", place)
    assert not source.bad
    write_quarantine(file, [Quarantined(manifest.select("pretrain")[7].path, "found elsewhere", "training")])
    assert set(source.bad) == {7}


def test_the_cache_is_built_without_it(recipe, place, monkeypatch):
    monkeypatch.setattr("vmae.data.cache._decode_into", decode_into)
    file = pretrain_list(place, recipe)
    source = frames_of(read_manifest(file), "pretrain", place.model_copy(update={"cache": True}))
    assert list(source.bad) == [3]
    assert "not done after 2 s" in source.bad[3]
    path = read_manifest(file).select("pretrain")[3].path
    assert read_quarantine(file) == {path: Quarantined(path, "not done after 2 s; its process was killed", "training")}

    monkeypatch.undo()  # the machine is itself again, and a scan has the last word
    scan(file, num_workers=2, progress=False)
    assert not frames_of(read_manifest(file), "pretrain", place.model_copy(update={"cache": True})).bad


def test_a_cache_is_not_made_again_for_what_can_never_be_read(recipe, place, monkeypatch):
    file = pretrain_list(place, recipe)
    manifest = read_manifest(file)
    manifest.absolute(manifest.select("pretrain")[3]).write_bytes(b"no video")
    cached = place.model_copy(update={"cache": True})
    assert list(frames_of(manifest, "pretrain", cached).bad) == [3]
    monkeypatch.setattr("vmae.data.cache._decode_all", None)
    assert list(frames_of(manifest, "pretrain", cached).bad) == [3]
    assert not read_quarantine(file)


def read_in_copy(decoder, path, queue):
    frames = decoder.read(path, "pyav", [0, 5])
    queue.put((frames.sum(), decoder._owner == os.getpid()))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_copy_in_another_process_has_a_decoding_process_of_its_own(recipe, place, method):
    manifest = read_manifest(pretrain_list(place, recipe))
    path = manifest.absolute(manifest.rows[0])
    decoder = GuardedDecoder(30.0)
    here = decoder.read(path, "pyav", [0, 5])
    np.testing.assert_array_equal(here, read_video(path, "pyav")[[0, 5]])
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    copy = context.Process(target=read_in_copy, args=(decoder, path, queue))
    copy.start()
    assert queue.get(timeout=60) == (here.sum(), True)
    copy.join(30)
    np.testing.assert_array_equal(decoder.read(path, "pyav", [0, 5]), here)
    decoder.close()


def test_frames_stay_when_the_next_are_read_and_memory_grows_with_them(tmp_path):
    small, large = (write_video(tmp_path / f"{n}.mp4", scene(12, n, n, seed=n), "libx264", {}) for n in (64, 256))
    decoder, own = GuardedDecoder(30.0), OwnDecoder()
    read = [decoder.read(path, "pyav", [1, 7]) for path in (small, large, small)]
    for frames, path in zip(read, (small, large, small), strict=True):
        np.testing.assert_array_equal(frames, own.read(path, "pyav", [1, 7]))
    decoder.close()


def test_full_shared_memory_is_no_bad_video(tmp_path, monkeypatch):
    def full(descriptor, size):
        if Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(SHARED):
            raise OSError("No space left on device")
        os.posix_fallocate(descriptor, 0, size)

    monkeypatch.setattr("vmae.data.guarded._fill", full)
    name, memory = guarded._reserve("vmae-frames-test-", 1000)
    assert not Path(name).is_relative_to(SHARED)
    memory[:] = 7
    Path(name).unlink()
    assert not list(SHARED.glob("vmae-frames-test-*"))
