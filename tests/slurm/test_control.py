"""SLURM's own commands: what they print is read right, what they refuse is said; real output of 22.05 through fakes."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm import control
from slurm.control import Job, format_time, gpus_in, parse_time_min
from vmae import allocation
from vmae.errors import ConfigError, SchedulerError


@pytest.fixture
def says(tmp_path, monkeypatch):
    """Put commands on PATH that print a text, or fail with one; they note how often they were called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    control.config.cache_clear()

    def add(name, out="", error="", code=0):
        (folder / f"{name}.out").write_text(out)
        (folder / f"{name}.err").write_text(error)
        script = (
            f"#!/bin/sh\necho x >> {folder}/{name}.calls\ncat {folder}/{name}.out\ncat {folder}/{name}.err >&2\nexit {code}\n"
        )
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
        return lambda: (folder / f"{name}.calls").read_text().count("x")

    yield add
    control.config.cache_clear()


def line(id_, name, state, reason, nodes, restarts, elapsed, user="me"):
    """As `control.queue` asks for it, which starts with what holds no separator."""
    return "".join(f"{word:>40}|" for word in (id_, state, reason, nodes, restarts, elapsed, user, name)) + "\n"


def test_the_queue_is_one_call(says):
    text = line("12", "3fa9c0d1e2f3a4b5", "RUNNING", "None", "n1", "2", "1:02")
    text += line("13_0", "vmae-0123456789ab", "PENDING", "Dependency", "", "0", "0:00")
    text += line("13_1", "vmae-0123456789ab", "PENDING", "BeginTime", "", "1", "0:00")
    text += line("14", "other", "COMPLETING", "None", "n2", "0", "3-01:00:00")
    calls = says("squeue", text)
    jobs = control.queue()
    assert calls() == 1
    assert jobs["12"] == Job("12", "3fa9c0d1e2f3a4b5", "RUNNING", "None", "n1", 2, "1:02", "me")
    assert [job.is_active for job in jobs.values()] == [True, True, True, True], "a completing job may be one that is requeued"
    assert [job.is_waiting for job in jobs.values()] == [False, True, True, False]
    assert jobs["13_1"].restarts == 1


@pytest.mark.parametrize("state", ["COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "DEADLINE"])
def test_a_job_that_is_over_is_not_active(state):
    assert not Job("1", "x", state, "", "", 0, "", "me").is_active


def test_other_jobs_of_the_user_may_be_called_and_numbered_as_they_like(says):
    part = line("12+0", "a|b", "RUNNING", "None", "n1", "0", "1:02")
    says("squeue", part + line("13", "|", "PENDING", "None", "", "0", "0:00"))
    assert {id_: (job.name, job.state) for id_, job in control.queue().items()} == {
        "12+0": ("a|b", "RUNNING"),
        "13": ("|", "PENDING"),
    }


def test_a_colleague_who_has_left_has_no_jobs(says):
    says("squeue", error="squeue: error: Invalid user: somebody\n")
    assert control.queue({"somebody"}) == {}


def test_what_is_said_on_stderr_is_no_job(says):
    """As a linker says that cannot preload a library."""
    says("squeue", error="ERROR: ld.so: object 'libxalt_init.so' from LD_PRELOAD cannot be preloaded: ignored.\n")
    assert control.queue() == {}


@pytest.mark.parametrize("name", ["Gr\udcf6\udcdfe", "a\nb", "a\nb|c"])
def test_a_name_in_another_encoding_or_with_a_line_break_is_a_name(says, tmp_path, name):
    says("squeue")
    text = line("12", name, "RUNNING", "None", "n1", "0", "1:02") + line("13", "x", "PENDING", "None", "", "0", "0:00")
    (tmp_path / "bin" / "squeue.out").write_bytes(text.encode("latin-1" if name.isascii() else "utf-8", "surrogateescape"))
    assert {id_: job.state for id_, job in control.queue().items()} == {"12": "RUNNING", "13": "PENDING"}


def test_a_queue_that_cannot_be_read_is_not_an_empty_one(says):
    """Every job of it would be submitted once more."""
    says("squeue", "12 RUNNING\n")
    with pytest.raises(SchedulerError, match="squeue prints what cannot be read: '12 RUNNING'"):
        control.queue()


def test_what_filters_the_users_own_squeue_hides_no_job_from_us(tmp_path, monkeypatch):
    """One more job would be submitted for each that is not seen."""
    script = '#!/bin/sh\n[ -z "$SQUEUE_PARTITION$SLURM_CLUSTERS" ] && echo RUNNING; exit 0\n'
    (tmp_path / "squeue").write_text(script)
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SQUEUE_PARTITION", "debug")
    monkeypatch.setenv("SLURM_CLUSTERS", "other")
    assert control.call("squeue").strip() == allocation.job_state("12") == "RUNNING"


def test_partitions_are_those_of_their_largest_node(says):
    text = "gpu*|1-00:00:00|64|512000+|gpu:a100:8(S:0-1),nvme:1|a1\ngpu*|1-00:00:00|32|256000|gpu:v100:4|v1\n"
    says("sinfo", text + "cpu|infinite|16|64000|(null)|c1\n")
    found = control.partitions()
    gpu, cpu = found["gpu"], found["cpu"]
    assert (gpu.is_default, gpu.max_time_min, gpu.cpus, gpu.mem_mb, gpu.gpus, gpu.num_nodes) == (True, 1440, 64, 512000, 8, 2)
    assert gpu.hosts == {"a1", "v1"}
    assert (cpu.is_default, cpu.max_time_min, cpu.gpus) == (False, None, 0)


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("gpu:8", 8),
        ("gpu:a100:8", 8),
        ("gpu:a100:4,gpu:v100:2", 6),
        ("nvme:4", 0),
        ("(null)", 0),
        ("gpu:h100_80gb:4(S:0-3)", 4),
        ("gpu:3090:8", 8),
        ("gpu:2080ti:4(S:0),gpu:4090:2", 6),
        ("gpu:1g.10gb:7(S:0-1)", 7),
    ],
)
def test_gpus_of_a_node(gres, gpus):
    assert gpus_in(gres) == gpus


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("1:30", 2), ("90:00", 90), ("1:30:00", 90), ("1-0", 1440), ("1-2:3", 1563), ("2-00:00:01", 2881), ("0:01", 1)],
)
def test_times_as_slurm_reads_them(text, minutes):
    assert parse_time_min(text) == minutes


@given(st.integers(1, 100_000))
def test_a_time_that_is_written_is_read_back(minutes):
    assert parse_time_min(format_time(minutes)) == minutes


@pytest.mark.parametrize("text", ["", "soon", "1:2:3:4", "1d", "-5", "0", "1.5", "0-0"])
def test_no_time_limit_names_what_is_allowed(text):
    with pytest.raises(ConfigError, match="D-HH:MM:SS"):
        parse_time_min(text)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
            "slurmctld does not answer: Unable to contact",
        ),
        (
            "sbatch: error: Batch job submission failed: Invalid account",
            "sbatch refuses: Batch job submission failed: Invalid account",
        ),
        ("sbatch: fatal: Could not establish a configuration source", "not configured: no slurm.conf"),
    ],
)
def test_what_slurm_refuses_is_said_in_its_words(says, error, words):
    says("sbatch", error=error, code=1)
    with pytest.raises(SchedulerError, match=words):
        control.call("sbatch", "x")


def test_a_missing_command_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SchedulerError, match=r"no sbatch on this machine.*--profile local"):
        control.call("sbatch")


def test_without_accounting_nothing_is_asked(says):
    says("scontrol", "AccountingStorageType   = (null)\nMaxArraySize            = 1001\n")
    asked = says("sacct", code=1)
    assert not control.has_accounting()
    assert control.ended(["1"]) == {}
    assert control.max_submit() is None
    assert control.max_array_size() == 1001
    with pytest.raises(FileNotFoundError):
        asked()


@pytest.mark.parametrize(
    ("lines", "size"),
    [("MaxArraySize = 0", 1), ("MaxArraySize = 100001\nSchedulerParameters = defer,max_array_tasks=1000", 1000)],
)
def test_arrays_are_as_large_as_the_cluster_takes_them(says, lines, size):
    says("scontrol", lines)
    assert control.max_array_size() == size


def test_with_accounting_the_smallest_limit_counts(says):
    says("scontrol", "AccountingStorageType   = accounting_storage/slurmdbd\n")
    says("sacct", "12|OUT_OF_MEMORY|0:125\n13_1|CANCELLED by 0|0:0\n")
    says("sacctmgr", "500\n\n200\n")
    assert control.ended(["12", "13_1"]) == {"12": "OUT_OF_MEMORY, exit code 0:125", "13_1": "CANCELLED by 0, exit code 0:0"}
    assert control.max_submit() == 200
    says("sacctmgr", "0\n\n200\n")
    assert control.max_submit() == 200, "an account that is closed says nothing of the others"
    says("sacctmgr", error="sacctmgr: error: slurm_persist_conn_open: Connection refused", code=1)
    assert control.max_submit() is None, "while the database is down SLURM takes jobs all the same"
