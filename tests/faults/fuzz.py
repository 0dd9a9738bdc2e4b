"""Every file that the suite reads, damaged in every way that comes to mind: it is read, or refused with its name; never more.

    python tests/faults/fuzz.py --inputs 10000 --seed 0

A traceback of another kind, a message that does not name the file, an answer that takes longer than twenty seconds, and weights
that are read although a bit of them was flipped are failures.
"""

import argparse
import random
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT)]

import torch  # noqa: E402

from analysis.archive import names_in, opened, write_archive  # noqa: E402
from analysis.collect import load_study, predictions  # noqa: E402
from analysis.table import cell_table  # noqa: E402
from benchmarks.synthetic_runs import finish  # noqa: E402
from slurm.profile import load_profile  # noqa: E402
from sweeps import registry  # noqa: E402
from vmae.data.make import make_embedded  # noqa: E402
from vmae.data.manifest import read_about, read_manifest, write_about  # noqa: E402
from vmae.data.packed import read_index, write_index  # noqa: E402
from vmae.data.quarantine import Quarantined, read_quarantine, write_quarantine  # noqa: E402
from vmae.data.scan import read_scan, scan  # noqa: E402
from vmae.data.video import read_video  # noqa: E402
from vmae.errors import VmaeError  # noqa: E402
from vmae.job import read_runtime  # noqa: E402
from vmae.model.importing import read_checkpoint  # noqa: E402
from vmae.results import MetricRow, MetricsLog, read_metrics  # noqa: E402
from vmae.runs import Store  # noqa: E402
from vmae.runtime import RuntimeConfig  # noqa: E402
from vmae.sealed import write_sealed  # noqa: E402
from vmae.study import make_plan  # noqa: E402
from vmae.train.checkpoint import Progress, load_checkpoint, load_weights, save_checkpoint, save_weights  # noqa: E402

SLOWEST_S = 20
WORDS = (b"null", b"-1", b"1e999", b"NaN", b'""', b"{}", b"[]", b"true", b"\x00", b"\xff\xfe", "\N{SNOWMAN}".encode(), b"9" * 400)


class Failure(Exception):
    """What must not happen."""


@dataclass(frozen=True)
class Target:
    """A file with sound content, and what reads it."""

    file: Path
    read: Callable[[], object]


def targets(folder: Path) -> dict[str, Target]:
    """Write one sound file of each kind below `folder`, and say how each is read."""
    store = Store(folder / "runs")
    made = make_plan(replace(registry.load("smoke"), seeds=(0,)))
    finish(store, made, lambda cell, seed: 50.0, num_videos=20)
    evaluation = store.run(next(id_ for id_, run in made.runs.items() if run.stage == "evaluate"))
    MetricsLog(evaluation.metrics).append([MetricRow(step, 0.5, "train", "loss", 0.25) for step in range(5)])
    evaluation.runtime.write_text(RuntimeConfig().model_dump_json())
    summary = {"search": "s", "cells": [], "space": {}, "num_trials": 1}
    write_sealed(store.search_file("s"), summary)
    write_archive(store, ["smoke"], folder / "runs.zip")
    return {
        "config": Target(evaluation.config, evaluation.load),
        "result": Target(evaluation.result, evaluation.read_result),
        "metrics": Target(evaluation.metrics, lambda: read_metrics(evaluation.metrics)),
        "predictions": Target(evaluation.predictions, lambda: predictions(evaluation)),
        "runtime": Target(evaluation.runtime, lambda: read_runtime(evaluation)),
        "plan": Target(store.plan_file("smoke"), lambda: cell_table(load_study(store, "smoke"))),
        "search": Target(store.search_file("s"), lambda: store.read_search("s")),
        "archive": Target(folder / "runs.zip", lambda: _read_archive(folder / "runs.zip")),
        **_lists(folder / "data"),
        **_weights(folder / "weights"),
        "profile": _profile(folder / "profile.toml"),
    }


def _read_archive(file: Path) -> None:
    with opened(file) as store:
        names_in(store)


def _profile(file: Path) -> Target:
    file.write_bytes((ROOT / "slurm" / "profiles" / "slurm.toml").read_bytes())
    return Target(file, lambda: load_profile(str(file)))


def _lists(root: Path) -> dict[str, Target]:
    folder = make_embedded(root, "tiny", seed=0, num_workers=1, progress=False)
    listed = folder / "motion.csv"
    scan(listed, num_workers=1)
    write_quarantine(listed, [Quarantined("videos/test/00000.mp4", 'a, "reason"', "hand")])
    write_about(listed, replace(read_about(listed), classes=("a", "b")))
    shard = root / "shard-000.json"
    shard.with_suffix(".bin").write_bytes(b"12345678")
    write_index(shard, 8, "raw", {"a.mp4": {"offsets": [0, 4], "height": 1, "width": 1, "crcs": [0]}})
    video = folder / "videos" / "test" / "00001.mp4"
    return {
        "manifest": Target(listed, lambda: read_manifest(listed)),
        "about": Target(listed.with_suffix(".about.json"), lambda: read_about(listed)),
        "quarantine": Target(listed.with_suffix(".quarantine.csv"), lambda: read_quarantine(listed)),
        "scan": Target(listed.with_suffix(".scan.csv"), lambda: read_scan(listed)),
        "shard index": Target(shard, lambda: read_index(shard)),
        "video": Target(video, lambda: read_video(video, "pyav")),
    }


def _weights(folder: Path) -> dict[str, Target]:
    place = Store(folder).run("0" * 16)
    place.path.mkdir(parents=True)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    sound = model.weight.detach().clone()
    save_checkpoint(place, model, optimizer, Progress())
    save_weights(place.weights, model)
    released = folder / "released.pth"
    torch.save({"model": {"encoder.norm.weight": torch.ones(3)}, "args": argparse.Namespace(lr=1.0)}, released)
    return {
        "checkpoint": Target(place.checkpoint, lambda: _same(load_checkpoint(place, model, optimizer) and model.weight, sound)),
        "weights": Target(place.weights, lambda: _same(load_weights(place.weights)["weight"], sound)),
        "released": Target(released, lambda: read_checkpoint(released)),
    }


def _same(read: torch.Tensor, written: torch.Tensor) -> None:
    if not torch.equal(read, written):
        raise Failure("other weights than were written")


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Return other bytes: flipped, cut, doubled, moved, or with a word where another stood."""
    text = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 5))):
        i, j = sorted(chance.randrange(len(text) + 1) for _ in range(2))
        match chance.randrange(7):
            case 0 if text:
                text[i % len(text)] ^= 1 << chance.randrange(8)
            case 1:
                del text[i:]
            case 2:
                del text[i : min(j, i + 50)]
            case 3:
                text[i:i] = text[i : min(j, i + 200)]
            case 4:
                text[i:i] = chance.randbytes(chance.randrange(1, 20))
            case 5:
                _put_a_word(text, i, chance)
            case 6:
                lines = bytes(text).splitlines(keepends=True)
                chance.shuffle(lines)
                text[:] = b"".join(lines)
    return bytes(text)


def _put_a_word(text: bytearray, start: int, chance: random.Random) -> None:
    """Replace the value that begins after the next colon, comma or equals sign."""
    marks = [k for k in range(start, min(len(text), start + 200)) if text[k] in b":,="]
    if marks:
        end = next((k for k in range(marks[0] + 1, len(text)) if text[k] in b",}]\n"), len(text))
        text[marks[0] + 1 : end] = chance.choice(WORDS)


def outcome(target: Target) -> str:
    """Read the file as it is: `read` or `refused`; Failure with the reason for anything else."""

    def too_long(*_: object) -> NoReturn:
        raise TimeoutError(f"{target.file} takes longer than {SLOWEST_S} s")

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SLOWEST_S)
    try:
        target.read()
    except VmaeError as error:
        if target.file.name in str(error) or target.file.parent.name in str(error):
            return "refused"
        raise Failure(f"not named: {error}") from None
    except Exception:
        raise Failure(traceback.format_exc()) from None
    finally:
        signal.alarm(0)
    return "read"


def fuzz(known: dict[str, Target], num_inputs: int, seed: int, keep: Path) -> tuple[Counter, list[str]]:
    """Damage each in turn; return what came of it, and failures in words, each with its input kept in `keep`."""
    chance, counts, failures = random.Random(seed), Counter[str](), []
    sound = {name: target.file.read_bytes() for name, target in known.items()}
    for k in range(num_inputs):
        name = list(known)[k % len(known)]
        target = known[name]
        target.file.write_bytes(damaged(sound[name], chance))
        try:
            counts[f"{name} {outcome(target)}"] += 1
        except Failure as error:
            counts[f"{name} FAILED"] += 1
            keep.mkdir(exist_ok=True)
            (keep / f"{k}-{target.file.name}").write_bytes(target.file.read_bytes())
            failures.append(f"{name}, input {k}: {error}")
        target.file.write_bytes(sound[name])
    return counts, failures


def main() -> None:
    """Parse arguments, fuzz, print, and fail if anything did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=5, help="failures to print")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="where inputs that failed are left")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fuzz-")))
        counts, failures = fuzz(targets(folder), given.inputs, given.seed, given.keep)
    for name, count in sorted(counts.items()):
        print(f"{name:24} {count:6}")
    if failures:
        raise SystemExit(
            "\n\n".join([*failures[: given.show], f"{len(failures)} of {given.inputs} inputs failed; they are in {given.keep}"])
        )
    print(f"{given.inputs} damaged files, each read or refused by name")


if __name__ == "__main__":
    main()
