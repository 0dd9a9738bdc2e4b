"""The command on a real SLURM, with a store and a profile of its own."""

import json
import os
import subprocess
import sys
import time

from helpers import ROOT, clean_environment

from vmae.runs import Store

PROFILE = """kind = "slurm"
partition = "main"
time = "5"
{more}
[runtime]
num_threads = 1
device = "cpu"
checkpoint_every_s = 0.3
"""


class Sweeps:
    """The command, with a store of its own."""

    def __init__(self, folder, data_root, more=""):
        self.store = Store(folder / "runs")
        self.profile = folder / "cluster.toml"
        self.profile.write_text(PROFILE.format(more=more))
        self.environment = clean_environment(VMAE_RUNS=str(self.store.root), VMAE_DATA=str(data_root))

    def start(self, *words):
        environment = {**self.environment, **slurm_only()}
        piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([sys.executable, "-m", *words], cwd=ROOT, env=environment, **piped)

    def __call__(self, *words, check=True):
        process = self.start(*words)
        text, _ = process.communicate()
        assert not check or process.returncode == 0, text
        return text

    def submit(self, *more, check=True):
        return self("sweeps", "submit", "smoke", "--profile", str(self.profile), *more, check=check)

    def rows(self, *more):
        return json.loads(self("sweeps", "status", "smoke", "--json", *more))

    def states(self, *more):
        return {row["id"]: row["state"] for row in self.rows(*more)}

    def until(self, condition, limit_s=240):
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline, self("sweeps", "status", "smoke", "--all")
            time.sleep(0.3)

    def until_over(self, bed):
        self.until(lambda: not bed.call("squeue", "-h", "-p", "main", "-t", "PD,R,CG,CF,SI,RQ").strip())


def slurm_only():
    return {name: value for name, value in os.environ.items() if name in ("SLURM_CONF", "PATH")}
