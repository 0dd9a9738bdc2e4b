"""One pre-training step of ours against transformers' VideoMAEForPreTraining: the same weights, clips and masks, one process.

    python benchmarks/pretrain_step.py                                        # all sizes, fp32 and bf16, on what is here
    python benchmarks/pretrain_step.py --size vit_b --precision bf16 --rounds 7
    python benchmarks/pretrain_step.py --device cuda --compiled --out results/bench
    python benchmarks/pretrain_step.py --size vit_s --profile                 # where a step's time goes, instead of the table

A step is forward, loss, backward and fused AdamW, from float clips that lie on the device: [0, 1] for us, who normalise inside,
ImageNet-normalised already for transformers. Rounds are interleaved, one step of each contestant in turn, after warm-up steps
that count for nothing; the first to go changes from round to round. What is compared is the median over rounds of the ratio
within a round, of CPU time (all threads; on CUDA: of event time around five steps), so that other work on the machine
moves it little. Ratios above 1 say that ours is faster.

Columns: `ratio` to transformers eager with its quartiles `low` and `high`, with --compiled `to_compiled` alike to transformers
compiled; `clips_per_s` by the same clock; `loss` of the first step, which must agree. On a CPU `gflops` per clip counted in
forward and backward, `of_minimum` that over what a clip by itself needs at least (`minimum_gflops`), and in a process of its own
`peak_gb`, the largest resident set during three steps, `step_gb` of it above what stood before the first one (weights, clips,
libraries). On CUDA `of_peak`, the share that the least FLOPs have of the matrix peak measured in the same process
(`peak_gflops_per_s`), and the allocator's peak above what stood before the contestant was made, so without clips (`peak_gb`),
and before its first step (`step_gb`). 1 GB is 1e9 bytes.

A contestant that fails has no row, and says why. --out FOLDER (or $OUT) receives pretrain_step.csv and pretrain_step.json with
the machine, versions, commit and the fused kernels that PyTorch chooses, after each size and precision.
"""

import argparse
import csv
import ctypes
import gc
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))  # behind PYTHONPATH, so that another checkout can be measured with this script

from benchmarks.contestants import ATTENTIONS, BASE, SIZES, WAYS, Size, Step, data_of, make_step  # noqa: E402
from benchmarks.counted import counted_gflops, kernels, minimum_gflops  # noqa: E402
from vmae.errors import near  # noqa: E402
from vmae.peak import matrix_peak, wait_for  # noqa: E402
from vmae.provenance import provenance  # noqa: E402

CPU = torch.device("cpu")
STEPS_TIMED = 5  # at a time on a GPU, as in a training: the next step is prepared while this one is computed


def timed(step: Step, device: torch.device) -> float:
    """Return the seconds of one step: CPU time of all threads, or time on the GPU, the mean of some steps."""
    if device.type != "cuda":
        started = time.process_time()
        step()
        return time.process_time() - started
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    for _ in range(STEPS_TIMED):
        step()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1000 / STEPS_TIMED


def rounds(steps: dict[str, Step], num_rounds: int, num_warmup: int, device: torch.device) -> dict[str, list[float]]:
    """Return seconds per contestant and round; everybody has taken a first step."""
    for step in steps.values():
        for _ in range(num_warmup - 1):
            step()
    took: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for number in range(num_rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            took[name].append(timed(steps[name], device))
    return took


def entered(make: Callable[[], Step], device: torch.device) -> tuple[Step, float, dict[str, float]]:
    """Make a contestant, and return it with the loss of its first step and, on CUDA, the memory of three steps in GB."""
    if device.type != "cuda":
        step = make()
        return step, float(step()), {}
    gc.collect()
    before = torch.cuda.memory_allocated()
    step = make()
    made = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    losses = [float(step()) for _ in range(3)]
    peak = torch.cuda.max_memory_allocated()
    return step, losses[0], {"peak_gb": (peak - before) / 1e9, "step_gb": (peak - made) / 1e9}


def sized(words: argparse.Namespace, name: str) -> Size:
    """Return a size, with as many clips a step as are asked for."""
    return replace(SIZES[name], batch=words.batch) if words.batch else SIZES[name]


def anew(words: argparse.Namespace, size: str, precision: str, *more: str) -> list[str]:
    """Return the command that does `more` with one size and precision, in a process of its own."""
    command = [sys.executable, __file__, "--size", size, "--precision", precision, "--device", words.device, *more]
    return command + (["--batch", str(words.batch)] if words.batch else [])


def memory_of(name: str, words: argparse.Namespace, size: str, precision: str) -> dict[str, float]:
    """Return peak and step memory in GB of a contestant alone in a process, on a CPU."""
    command = anew(words, size, precision, "--alone", name, "--threads", str(torch.get_num_threads()))
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def alone(name: str, size: Size, precision: str) -> dict[str, float]:
    """Take three steps on the CPU and say how much memory they took, in GB."""
    step = make_step(name, size.run(), data_of(size.run(), size.batch, CPU), precision, CPU)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # making ours made theirs too, whose weights are gone and must not count
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM to VmRSS
    before = _status_bytes("VmRSS")
    for _ in range(3):
        step()
    peak = _status_bytes("VmHWM")
    return {"peak_gb": peak / 1e9, "step_gb": (peak - before) / 1e9}


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def compile_ahead(names: Sequence[str], words: argparse.Namespace, size: str, precision: str) -> None:
    """Have compiled contestants take a step in a process each, all at once: what they compile is found in the cache later."""
    compiled = {" ".join(word for word in name.split() if word != "graph") for name in names if "compiled" in name}
    commands = [anew(words, size, precision, "--once", name) for name in sorted(compiled)]
    at_work = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    for process in at_work:
        process.wait()


def ratios(took: dict[str, list[float]], base: str, name: str, columns: Sequence[str]) -> dict[str, float]:
    """Return how many times as fast as `base` a contestant is: median and quartiles over rounds, no numbers where that failed."""
    found = [theirs / own for theirs, own in zip(took.get(base, [math.nan] * len(took[name])), took[name], strict=True)]
    low, middle, high = statistics.quantiles(found, n=4) if len(found) > 1 else found * 3
    return dict(zip(columns, (middle, low, high), strict=True))


def compare(words: argparse.Namespace, size_name: str, precision: str, device: torch.device) -> list[dict[str, Any]]:
    """Return the table's rows of one size and precision."""
    size = sized(words, size_name)
    run = size.run()
    data = data_of(run, size.batch, device)
    names = (
        [BASE, "vmae"]
        + ([f"{BASE} compiled", "vmae compiled"] if words.compiled else [])
        + [f"vmae {more}" for more in words.also]
    )
    if words.ahead:
        compile_ahead(names, words, size_name, precision)
    steps, losses, memory = {}, {}, {}
    for name in names:
        try:
            steps[name], losses[name], memory[name] = entered(partial(make_step, name, run, data, precision, device), device)
        except Exception as error:  # out of memory, or a compiler's: the others are still worth their time
            print(f"{name}, {size_name}, {precision}: {type(error).__name__}: {error}".splitlines()[0], flush=True)
    took = rounds(steps, words.rounds, words.warmup, device)
    peak = matrix_peak(precision, device) if device.type == "cuda" else 0.0
    rows = []
    for name in steps:
        clips_per_s = size.batch / statistics.median(took[name])
        row = {"size": size_name, "precision": precision, "batch": size.batch, "contestant": name}
        row |= ratios(took, BASE, name, ("ratio", "low", "high"))
        if words.compiled:
            row |= ratios(took, f"{BASE} compiled", name, ("to_compiled", "compiled_low", "compiled_high"))
        row |= {"clips_per_s": clips_per_s, "loss": losses[name]}
        if device.type == "cuda":
            row |= {"of_peak": clips_per_s * minimum_gflops(run) / peak, "peak_gflops_per_s": peak} | memory[name]
        else:
            gflops = 0.0 if "compiled" in name else counted_gflops(steps[name], size.batch)
            row |= {"gflops": gflops, "of_minimum": gflops / minimum_gflops(run)}
            row |= memory_of(name, words, size_name, precision) if not words.no_memory else {}
        rows.append(row)
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print rows, with names above the first."""
    for row in rows:
        cells = [
            f"{value:.6f}" if key == "loss" else f"{value:.3f}" if isinstance(value, float) else str(value)
            for key, value in row.items()
        ]
        print(" | ".join(cells), flush=True)


def profile(words: argparse.Namespace, device: torch.device) -> None:
    """Print the operators of a step, by their own time, for either side."""
    from torch.profiler import ProfilerActivity

    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    key = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    size = sized(words, words.size[0])
    for name in [BASE, "vmae"] + (["vmae compiled"] if words.compiled else []):
        step = make_step(name, size.run(), data_of(size.run(), size.batch, device), words.precision[0], device)
        for _ in range(words.warmup):
            step()
        with torch.profiler.profile(activities=kinds) as found:
            step()
            wait_for(device)
        print(f"{name}, {words.size[0]}, {words.precision[0]}")
        print(found.key_averages().table(sort_by=key, row_limit=14 if device.type == "cpu" else 30, max_name_column_width=50))


def ways(words: str) -> str:
    """Return words that say how ours computes, as they are; argparse's error for one that says nothing."""
    for word in words.split():
        if word not in WAYS:
            raise argparse.ArgumentTypeError(f"no way {word!r}{near(word, WAYS)}")
    return words


def main() -> None:
    """Measure and print; write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, help="clips per step, instead of each size's own")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--warmup", type=int, default=2, help="steps of each that do not count, the first one included")
    parser.add_argument("--threads", type=int, help="of torch; default: all cores")
    parser.add_argument("--ahead", action="store_true", help="compile first, everybody at once, where there are cores and memory")
    parser.add_argument("--compiled", action="store_true", help="both sides through torch.compile too")
    parser.add_argument(
        "--also",
        type=ways,
        nargs="+",
        default=[],
        metavar="WORDS",
        help=f"ours in other ways too, each of the words {', '.join(ATTENTIONS)} (runtime.attention), shared, unshared "
        f"(runtime.share_mask_tokens), residual (precision bf16_residual), compiled, graph (a CUDA graph): "
        f"--also fused 'residual compiled graph'",
    )
    parser.add_argument("--no-memory", action="store_true", help="skip the memory columns")
    parser.add_argument("--profile", action="store_true", help="operators of one step of the first size and precision")
    parser.add_argument("--out", type=Path, default=os.environ.get("OUT"), help="folder for csv and json")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--once", help=argparse.SUPPRESS)
    words = parser.parse_args()
    device = torch.device(words.device)
    if words.threads:
        torch.set_num_threads(words.threads)
    if words.alone or words.once:
        size = sized(words, words.size[0])
        if words.once:
            make_step(words.once, size.run(), data_of(size.run(), size.batch, device), words.precision[0], device)()
            return
        print(json.dumps(alone(words.alone, size, words.precision[0])))
        return
    if words.profile:
        profile(words, device)
        return
    rows: list[dict[str, Any]] = []
    chosen: dict[str, dict[str, str]] = {}
    for size_name in words.size:
        for precision in words.precision:
            size = sized(words, size_name)
            chosen[f"{size_name} {precision}"] = kernels(size.run(), size.batch, precision, device)
            new = compare(words, size_name, precision, device)
            if new and not rows:
                print(" | ".join(new[0]))
            show(new)
            rows += new
            if words.out and rows:
                write(rows, chosen, Path(words.out))
    print(f"fused attention, where it is asked for: {chosen}")


def write(rows: list[dict[str, Any]], chosen: dict[str, dict[str, str]], folder: Path) -> None:
    """Write rows as csv, and as json with where they come from."""
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "pretrain_step.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    facts = provenance() | {"transformers": transformers.__version__, "command": " ".join(sys.argv), "fused_attention": chosen}
    (folder / "pretrain_step.json").write_text(json.dumps({"provenance": facts, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
