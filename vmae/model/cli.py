"""`vmae checkpoint`: look into weights of any origin, bring them to ours, hand ours to others."""

import json
from pathlib import Path
from typing import Annotated

import typer

from vmae.claim import read_json
from vmae.config import FinetuneRun, PretrainRun, Run
from vmae.errors import CheckpointError, near
from vmae.runs import RunDir

app = typer.Typer(
    help="Weights: what is in a file; released and Hugging Face files to ours; ours to theirs.", no_args_is_help=True
)
File = Annotated[Path, typer.Argument(help="A checkpoint: .pth, .pt, .bin or .safetensors.")]
Out = Annotated[Path, typer.Option("--out", help="The file to write.")]
Tubelet = Annotated[int, typer.Option(min=1, help="Frames of a cube.")]
Patch = Annotated[int, typer.Option(min=1, help="Height and width of a cube in pixels.")]


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A checkpoint: .pth, .pt, .bin or .safetensors; or a run directory.")],
    names: Annotated[bool, typer.Option("--names", help="Every tensor with its shape, under the file's names.")] = False,
) -> None:
    """Say whose weights these are, of which model, and what else the file holds. Nothing in it is run.

    Example: vmae checkpoint inspect checkpoint.pth
    """
    from vmae.files import file_sha256
    from vmae.model.describe import describe, positions_and_heads
    from vmae.model.importing import read_checkpoint

    file, run = _origin(file)
    checkpoint = read_checkpoint(file)
    typer.echo(f"file: {file}\nsha256: {file_sha256(file)}\nformat: {checkpoint.format}, {len(checkpoint.weights)} tensors")
    if checkpoint.wrapper:
        typer.echo(f"weights under: {checkpoint.wrapper!r}; beside them: {', '.join(checkpoint.others) or 'nothing'}")
    found = describe(checkpoint)
    for line in [*found.lines(), *positions_and_heads(checkpoint, found, run)]:
        typer.echo(line)
    for name, tensor in checkpoint.weights.items() if names else ():
        typer.echo(f"  {name} {list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}")


@app.command("import")
def import_(file: File, out: Out, tubelet: Tubelet = 2) -> None:
    """Write released, Hugging Face or image-MAE weights under our names, as safetensors.

    Example: vmae checkpoint import checkpoint.pth --out videomae_b.safetensors
    """
    import safetensors.torch

    from vmae.files import write_atomic
    from vmae.model.formats import to_vmae
    from vmae.model.importing import read_checkpoint

    checkpoint = read_checkpoint(file)
    weights = to_vmae(checkpoint.weights, checkpoint.format, tubelet)
    write_atomic(out, safetensors.torch.save({name: tensor.contiguous() for name, tensor in weights.items()}))
    typer.echo(f"{len(weights)} tensors of format {checkpoint.format} written to {out}")


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="Weights under our names, or a run directory.")],
    out: Out,
    format_: Annotated[str, typer.Option("--format", help="released (a .pth with key 'model') or huggingface (safetensors).")],
    tubelet: Tubelet = 2,
    patch: Patch = 16,
) -> None:
    """Write our weights under the names of another project. A run directory knows its cube; for a file say it.

    Their code has positions sincos_1d only, the released one also the heads of its sizes: a run with others is refused.
    transformers 4 and 5 read a folder with a huggingface file called model.safetensors by from_pretrained: of a run, the
    config.json that it wants is written beside it.

    Example: vmae checkpoint export runs/0123456789abcdef --format huggingface --out exported/model.safetensors
    """
    import safetensors.torch
    import torch

    from vmae.files import write_atomic
    from vmae.model.describe import check_exportable, config_of
    from vmae.model.formats import from_vmae
    from vmae.model.importing import read_checkpoint

    if format_ not in (allowed := ("released", "huggingface")):
        raise CheckpointError(f"--format {format_!r}{near(format_, allowed)}")
    file, run = _origin(file)
    if run is not None:
        tubelet, patch = run.grid.tubelet_frames, run.grid.patch_px
    checkpoint = read_checkpoint(file)
    if checkpoint.format != "vmae":
        raise CheckpointError(f"{file} is of format {checkpoint.format}; bring it to ours first: vmae checkpoint import {file}")
    check_exportable(checkpoint, run, format_)
    weights = from_vmae(checkpoint.weights, format_, tubelet, patch)
    if format_ == "released":
        write_atomic(out, lambda path: torch.save({"model": weights}, path))
    else:
        write_atomic(out, safetensors.torch.save(weights))
        if out.name == "model.safetensors" and isinstance(run, PretrainRun | FinetuneRun):
            write_atomic(out.with_name("config.json"), (json.dumps(config_of(run), indent=1) + "\n").encode())
    typer.echo(f"{len(weights)} tensors written to {out} as {format_}")
    if run is None:
        typer.echo(f"{file} does not say which positions it was trained with; their code adds sincos_1d, and so fits no others")


def _origin(file: Path) -> tuple[Path, Run | None]:
    """Return the weights that are meant, and the run that they are of: `file` is its directory or lies in it; None: no run."""
    place = RunDir((file if file.is_dir() else file.parent).absolute())
    is_theirs = "model_type" in read_json(place.config)  # transformers' config.json is called as a run's
    if file.is_dir() or (file.name == place.weights.name and place.config.exists() and not is_theirs):
        return place.weights, place.load()
    return file, None
