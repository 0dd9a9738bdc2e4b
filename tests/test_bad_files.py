"""Bad files among good ones: the benchmark that plants them, small."""

import re
import subprocess
import sys

import pytest
from helpers import ROOT, clean_environment


@pytest.mark.slow
def test_each_is_named_an_epoch_finishes_and_an_evaluation_counts():
    words = [sys.executable, str(ROOT / "benchmarks" / "bad_files.py"), "--videos", "400", "--bad", "40"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=280, env=clean_environment(COLUMNS="200"))
    assert done.returncode == 0, done.stdout + done.stderr
    for kind in ("empty", "truncated", "container", "no frames", "huge", "spinning", "missing", "unreadable"):
        assert f"  {kind}: 5 of 5 named" in done.stdout
    assert re.search(r"pretrain: an epoch of 160 clips, 7 replaced, 7 of 160 bad", done.stdout)
    assert re.search(r"evaluate: 58 of 80 scored, 22 named", done.stdout)
