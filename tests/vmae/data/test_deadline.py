"""Calls that can be killed: order, blame, replacement; a call that spins in C with the interpreter's lock held is ended."""

import ctypes
import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
from helpers import ROOT, clean_environment
from hypothesis import given, settings
from hypothesis import strategies as st

from vmae.data import deadline
from vmae.data.deadline import Blamed, DeadlinePool
from vmae.errors import DataError
from vmae.interrupt import STOP_SIGNALS

TIMEOUT_S = 3.0


def spin_with_the_lock():
    """Never return, never release the interpreter's lock: `PyDLL` holds it, and the C library sleeps."""
    ctypes.PyDLL(None).pause()


def act(word):
    if word == "spin":
        spin_with_the_lock()
    if word == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == "exit":
        os._exit(7)
    if word == "refuse":
        raise DataError("a.mp4: no frame")
    if word == "break":
        raise ValueError("unexpected")
    if word == "unsendable":
        return lambda: None
    return word, os.getpid()


def send_oneself(number):
    os.kill(os.getpid(), number)
    return "alive"


EXPECTED = {
    "spin": Blamed("deadline", "not done after 3 s; its process was killed"),
    "segfault": Blamed("died", "its process was killed by SIGSEGV"),
    "exit": Blamed("died", "its process ended with code 7"),
    "refuse": Blamed("raised", "a.mp4: no frame"),
    "break": Blamed("raised", "ValueError: unexpected"),
}


@pytest.fixture(scope="module")
def pool():
    with DeadlinePool(2) as pool:
        yield pool


def test_each_is_answered_in_order_and_only_the_guilty_are_blamed(pool):
    words = ["a", "spin", "b", "segfault", "c", "exit", "d", "refuse", "e", "break", "f", "unsendable", "g"]
    found = list(pool.run(act, words, TIMEOUT_S))
    assert [word for word, _ in found] == words
    for word, answer in found:
        if word == "unsendable":
            assert "what it returned cannot be sent" in answer.reason
        else:
            assert answer == EXPECTED[word] if word in EXPECTED else answer[0] == word


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "exit", "refuse"]), max_size=8), st.integers(1, 9))
def test_any_sequence_comes_back_whole(pool, words, ahead):
    found = list(pool.run(act, words, TIMEOUT_S, ahead=ahead))
    assert [(word, answer if isinstance(answer, Blamed) else answer[0]) for word, answer in found] == [
        (word, EXPECTED.get(word, word)) for word in words
    ]


def test_processes_are_kept_between_runs_and_replaced_one_by_one():
    with DeadlinePool(1) as pool:
        pids = [answer[1] for _, answer in pool.run(act, ["a", "b"], TIMEOUT_S)]
        pids += [answer[1] for _, answer in pool.run(act, ["c"], TIMEOUT_S)]
        assert len(set(pids)) == 1
        os.kill(pids[0], signal.SIGKILL)
        ((_, (_, other)),) = pool.run(act, ["d"], TIMEOUT_S)
    assert other != pids[0], "one that died idle costs nobody anything"
    with pytest.raises(ProcessLookupError):
        os.kill(other, 0)


def test_a_signal_to_the_whole_group_is_for_the_caller(pool):
    ((_, blocked),) = pool.run(functools.partial(signal.pthread_sigmask, signal.SIG_BLOCK), [()], TIMEOUT_S)
    assert blocked >= set(STOP_SIGNALS)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(STOP_SIGNALS), "the caller hears them as before"
    for number in STOP_SIGNALS:
        assert next(pool.run(send_oneself, [number], TIMEOUT_S)) == (number, "alive")


def test_items_are_read_only_as_far_ahead_as_asked(pool):
    read = []

    def items():
        for number in range(50):
            read.append(number)
            yield str(number)

    results = pool.run(act, items(), TIMEOUT_S, ahead=3)
    next(results)
    assert len(read) <= 5
    results.close()


def test_a_run_given_up_leaves_no_process_and_the_pool_goes_on(pool):
    results = pool.run(act, ["a", "spin", "spin"], 1000.0)
    next(results)
    results.close()
    assert [word for word, _ in pool.run(act, ["x", "y"], TIMEOUT_S)] == ["x", "y"]


def test_a_partial_and_another_function(pool):
    assert [value for _, value in pool.run(functools.partial(pow, 2), [3, 4], TIMEOUT_S)] == [8, 16]
    assert [value for _, value in pool.run(abs, [-3], TIMEOUT_S)] == [3]


def test_what_a_worker_cannot_import_is_said(pool, monkeypatch):
    module = type(sys)("only_here")
    exec("def f(item): return item", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", module)
    with pytest.raises(DataError, match=r"cannot import its function: ModuleNotFoundError.*only_here"):
        list(pool.run(module.f, [1], TIMEOUT_S))


def test_time_in_which_the_caller_was_stopped_does_not_count(pool):
    results = pool.run(time.sleep, [0.0, TIMEOUT_S / 2], TIMEOUT_S)
    next(results)
    time.sleep(TIMEOUT_S * 1.5)
    assert next(results) == (TIMEOUT_S / 2, None)


def _in_a_daemon(queue):
    with DeadlinePool(1) as pool:
        queue.put([word for word, _ in pool.run(act, ["a"], 60.0)])


def test_a_disk_that_does_not_answer_is_no_fault_of_a_file_unless_it_takes_minutes(monkeypatch):
    monkeypatch.setattr(deadline, "_waits_for_disk", lambda pid: True)
    with DeadlinePool(1) as pool:
        assert list(pool.run(time.sleep, [1.5], 0.5)) == [(1.5, None)]
        monkeypatch.setattr(deadline, "DISK_S", 0.5)
        assert list(pool.run(time.sleep, [600], 0.5)) == [
            (600, Blamed("deadline", "not done after 0.5 s; its process was killed"))
        ]


@pytest.mark.parametrize(
    ("stat", "waits"), [("7 (a) R) D 1 2", True), ("7 (D) S 1 2", False), ("7 (a) R 1 D", False), ("", False)]
)
def test_who_waits_for_a_disk_is_told_by_the_kernel(tmp_path, monkeypatch, stat, waits):
    monkeypatch.setattr(deadline, "PROC", tmp_path)
    assert not deadline._waits_for_disk(7)
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text(stat)
    assert deadline._waits_for_disk(7) == waits


def test_a_daemon_may_have_one():
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_in_a_daemon, args=(queue,), daemon=True)
    process.start()
    assert queue.get(timeout=100) == ["a"]
    process.join(100)


SCRIPT = """
import os, sys
from pathlib import Path
from vmae.data.deadline import DeadlinePool
def spin(file):
    Path(file).write_text(str(os.getpid()))
    while True: pass
if __name__ == "__main__":
    list(DeadlinePool(1).run(spin, sys.argv[1:], 1.0))
"""


def test_a_spinning_process_ends_after_its_caller_was_killed(tmp_path):
    """By its limit of processor time. Functions of a script can be run, too."""
    (tmp_path / "script.py").write_text(SCRIPT)
    note = tmp_path / "pid"
    environment = clean_environment(PYTHONPATH=str(ROOT))
    caller = subprocess.Popen([sys.executable, str(tmp_path / "script.py"), str(note)], env=environment)
    while not (note.exists() and note.read_text()):
        assert caller.poll() is None
        time.sleep(0.02)
    caller.kill()
    caller.wait()
    pid = int(note.read_text())
    while _is_running(pid):
        time.sleep(0.1)


def _is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
