"""`vmae bench`: how fast reading, the model and the whole pre-training step are here."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vmae.errors import ConfigError, near
from vmae.recipe import validate
from vmae.runtime import RuntimeConfig
from vmae.sizes import DECODERS, encoder_of

if TYPE_CHECKING:
    from vmae.config import PretrainRun

app = typer.Typer(
    help=(
        "Speed here: `model` computes on noise, `loader` reads a run's videos, `step` does both. Say which model by name, or a "
        "run directory (made by `python -m sweeps submit SWEEP --prepare`). Beside transformers: benchmarks/pretrain_step.py."
    ),
    no_args_is_help=True,
)
# One process, which keeps nothing and times the parts of a step.
UNUSED = ("shard", "bucket_mb", "cuda_graphs", "checkpoint_every_s", "log_every_steps")
UNUSED_BY_LOADER = ("micro_batch_size", "compile", "attention", "share_mask_tokens", "recompute")
RunDirectory = Annotated[Path | None, typer.Option("--run", help="A pre-training's run directory, instead of --model.")]
Model = Annotated[str, typer.Option(help="vit_s, vit_b, vit_l or vit_h, with its decoder.")]
SizePx = Annotated[int, typer.Option(min=1, help="Height and width of the 16-frame clips.")]
PatchPx = Annotated[int, typer.Option(min=1, help="Height and width of a cube of 2 frames.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Clips per step; default: 2, or the run's.")]
Precision = Annotated[str | None, typer.Option(help="fp32 or bf16; default: fp32, or the run's.")]
Setting = Annotated[list[str] | None, typer.Option("--set", help="A runtime setting: compile=true, num_workers=4, device=cuda.")]
Steps = Annotated[int, typer.Option(min=1, help="Steps that count.")]
Warmup = Annotated[int, typer.Option(min=0, help="Steps before them, which count for the program's clock only.")]
Out = Annotated[Path | None, typer.Option(help="A csv file for the row, beside which a json says where it comes from.")]


@app.command()
def model(
    run: RunDirectory = None,
    model: Model = "vit_b",
    size_px: SizePx = 224,
    patch_px: PatchPx = 16,
    batch: Batch = None,
    precision: Precision = None,
    set_: Setting = None,
    steps: Steps = 5,
    warmup: Warmup = 2,
    out: Out = None,
) -> None:
    """Forward, backward and optimiser on clips of noise: what the device could do if reading were free.

    Example: vmae bench model --model vit_b --size-px 224 --batch 32 --precision bf16 --set device=cuda
    """
    values = _values_of(run) if run else _values_by_name(model, size_px, patch_px)
    _measure("model", False, _run(values, batch, precision), _runtime(set_), steps, warmup, out)


@app.command()
def loader(
    run: Annotated[Path, typer.Option("--run", help="A pre-training's run directory.")],
    batch: Batch = None,
    set_: Setting = None,
    steps: Steps = 20,
    warmup: Warmup = 2,
    out: Out = None,
) -> None:
    """Read a run's batches and compute nothing: what reading could feed.

    Example: vmae bench loader --run runs/0123456789abcdef --set num_workers=2
    """
    runtime = _runtime(set_, UNUSED + UNUSED_BY_LOADER)
    _measure("loader", True, _run(_values_of(run), batch, None), runtime, steps, warmup, out)


@app.command()
def step(
    run: Annotated[Path, typer.Option("--run", help="A pre-training's run directory.")],
    batch: Batch = None,
    precision: Precision = None,
    set_: Setting = None,
    steps: Steps = 20,
    warmup: Warmup = 2,
    out: Out = None,
) -> None:
    """Read and train as the run would, without keeping anything: which of the two waits for the other.

    Example: vmae bench step --run runs/0123456789abcdef --steps 50
    """
    _measure("step", True, _run(_values_of(run), batch, precision), _runtime(set_), steps, warmup, out)


def _values_of(run_dir: Path) -> dict[str, Any]:
    """Return the config of a run directory as plain values; ConfigError where it is no masked pre-training."""
    from vmae.config import PretrainConfig, PretrainRun
    from vmae.runs import RunDir

    run = RunDir(run_dir.absolute()).load()
    if not isinstance(run, PretrainRun) or not isinstance(run.pretrain, PretrainConfig):
        raise ConfigError(f"{run_dir} is no masked pre-training; only those are measured")
    return run.model_dump()


def _values_by_name(model: str, size_px: int, patch_px: int) -> dict[str, Any]:
    """Return the config of a model by the paper's name as plain values; ConfigError for an unknown one."""
    encoder = encoder_of(model)
    section = {
        "data": {"source": "embedded"},
        "decoder": DECODERS[model].model_dump(),
        "optim": {"batch_size": 2},
        "precision": "fp32",
    }
    return {"grid": {"size_px": size_px, "patch_px": patch_px}, "encoder": encoder.model_dump(), "pretrain": section}


def _run(values: dict[str, Any], batch: int | None, precision: str | None) -> "PretrainRun":
    """Return the pre-training that is measured; ConfigError where the values do not fit together."""
    from vmae.config import PretrainRun

    if batch:
        values["pretrain"]["optim"]["batch_size"] = batch
    if precision:
        values["pretrain"]["precision"] = precision
    return validate(PretrainRun, values)


def _runtime(settings: list[str] | None, unused: Sequence[str] = UNUSED) -> RuntimeConfig:
    """Return the runtime that is measured; ConfigError for a setting that there is not, or that would do nothing here."""
    from vmae.recipe import parse_setting

    values = dict(parse_setting(text) for text in settings or [])
    for key in values:
        if key not in RuntimeConfig.model_fields:
            raise ConfigError(f"--set {key}: no runtime setting{near(key, RuntimeConfig.model_fields)}")
        if key in unused:
            allowed = ", ".join(name for name in RuntimeConfig.model_fields if name not in unused)
            raise ConfigError(f"--set {key} would do nothing: this does not measure it; allowed: {allowed}")
    return validate(RuntimeConfig, values, "--set")


def _measure(
    what: str, reads: bool, run: "PretrainRun", runtime: RuntimeConfig, num_steps: int, num_warmup: int, out: Path | None
) -> None:
    from vmae.bench import Bench, table
    from vmae.train.distributed import world

    with world(runtime, (0, 1, 0)) as alone:
        row = Bench(run, runtime, alone, num_steps, num_warmup).measure(what, reads).row()
    typer.echo(table([row]))
    if out:
        _write(out, row, run, runtime)


def _write(out: Path, row: dict[str, Any], run: "PretrainRun", runtime: RuntimeConfig) -> None:
    import csv
    import io
    import json

    from vmae.files import write_atomic
    from vmae.provenance import provenance

    text = io.StringIO()
    writer = csv.DictWriter(text, row)
    writer.writeheader()
    writer.writerow(row)
    write_atomic(out, text.getvalue().encode())
    facts = {"provenance": provenance(), "runtime": runtime.model_dump(), "run": run.model_dump(mode="json")}
    write_atomic(out.with_suffix(".json"), json.dumps(facts, indent=1).encode())
