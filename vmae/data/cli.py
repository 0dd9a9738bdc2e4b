"""`vmae data`: make and describe the embedded video set; the commands on lists are `vmae.data.cli_lists`'s."""

import json
from pathlib import Path
from typing import Annotated

import typer

from vmae.data.cli_lists import prepare_app, scan_command, subset_command
from vmae.data.cli_made import pack_command, transcode_command
from vmae.data.embedded import DOMAINS, SIZES, embedded_dir
from vmae.errors import DataError
from vmae.runtime import default_data_root

app = typer.Typer(help="Video sets: lists of real ones, the embedded one, a look at every video.", no_args_is_help=True)
app.add_typer(prepare_app, name="prepare")
app.command("scan")(scan_command)
app.command("subset")(subset_command)
app.command("transcode")(transcode_command)
app.command("pack")(pack_command)

Size = Annotated[str, typer.Option(help=f"One of {', '.join(SIZES)}.")]
Domain = Annotated[str, typer.Option(help="moving: the digit travels; still: it stays, and only its look tells clips apart.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the generator; another seed is another data set.")]
Root = Annotated[Path | None, typer.Option(help="Where data lie. Default: $VMAE_DATA, or ./data")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes. Default: all cores.")]


@app.command()
def make(size: Size = "quick", domain: Domain = "moving", seed: Seed = 0, root: Root = None, workers: Workers = None) -> None:
    """Render the embedded set as H.264 files, or finish an interrupted rendering.

    Example: vmae data make --size tiny
    """
    from vmae.data.make import make_embedded  # here, so that --help stays quick

    folder = make_embedded(root or default_data_root(), size, seed, workers, domain=domain)
    typer.echo(f"{sum(SIZES[size].values())} videos in {folder}: {', '.join(f'{labels}.csv' for labels in DOMAINS[domain])}")


@app.command()
def info(size: Size = "quick", domain: Domain = "moving", seed: Seed = 0, root: Root = None) -> None:
    """Print what an embedded set holds: scene, counts, list hashes, encoder."""
    file = embedded_dir(root or default_data_root(), size, seed, domain) / "info.json"
    if not file.exists():
        command = f"vmae data make --size {size} --domain {domain} --seed {seed}"
        raise DataError(f"no embedded set at {file.parent}; make it with: {command}")
    for key, value in json.loads(file.read_text(encoding="utf-8")).items():
        typer.echo(f"{key}: {value}")
