"""`vmae data transcode` and `pack`: other data sets of the same videos, quicker to read."""

from pathlib import Path
from typing import Annotated

import typer

from vmae.data.cli_lists import tell_bad
from vmae.data.made import lists_taken
from vmae.data.manifest import Manifest
from vmae.data.pack import SECONDS_PER_VIDEO, VIDEOS_PER_SHARD, Packing, pack
from vmae.data.quarantine import read_quarantine
from vmae.data.transcode import SECONDS_PER_VIDEO as SECONDS_TO_TRANSCODE
from vmae.data.transcode import Coding, transcode

List = Annotated[Path, typer.Argument(help="A list: csv with path,label,split.")]
Out = Annotated[Path, typer.Option(help="Folder to write to; the new list has the old one's name.")]
ShortSide = Annotated[int, typer.Option(help="Pixels of the short side at most; videos are never enlarged.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes. Default: all cores.")]
Seconds = Annotated[float, typer.Option(min=0.1, help="For one video; then its process is killed.")]


def transcode_command(
    file: List,
    out: Out,
    short_side: ShortSide = 256,
    gop: Annotated[int, typer.Option(help="Frames from one key frame to the next.")] = 12,
    crf: Annotated[int, typer.Option(help="x264's quality: 18 is hard to tell from the original, 23 smaller.")] = 18,
    workers: Workers = None,
    seconds: Seconds = SECONDS_TO_TRANSCODE,
) -> None:
    """Re-encode a list's videos as H.264, small and quick to seek in. Frame i stays frame i; each file is compared with the old.

    An interrupted call goes on. The new list is another data set, and its runs are others.

    Example: vmae data transcode data/k400.csv --out data/k400-small
    """
    _tell(transcode(file, out, Coding(short_side, gop, crf), workers, seconds), "transcode")


def pack_command(
    file: List,
    out: Out,
    short_side: ShortSide = 256,
    form: Annotated[str, typer.Option("--format", help="jpeg, or raw: bytes, the fastest and largest.")] = "jpeg",
    quality: Annotated[int, typer.Option(help="Of JPEG.")] = 90,
    workers: Workers = None,
    seconds: Seconds = SECONDS_PER_VIDEO,
    backend: Annotated[str, typer.Option(help="The decoder.")] = "auto",
    videos_per_shard: Annotated[int, typer.Option(min=1, help="Videos in one file.")] = VIDEOS_PER_SHARD,
) -> None:
    """Decode a list's videos once and store all frames, resized, one by one in a few large files: for network file systems.

    An interrupted call goes on. The new list is another data set, and its runs are others.

    Example: vmae data pack data/k400.csv --out data/k400-packed --short-side 256
    """
    packing = Packing(short_side, form, quality, videos_per_shard)  # type: ignore[arg-type]
    _tell(pack(file, out, packing, workers, seconds, backend), "pack")


def _tell(made: Manifest, by: str) -> None:
    bad = [row for row in read_quarantine(made.file).values() if row.by == by]
    folder = made.file.parent
    size_gb = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9
    typer.echo(f"{made.file}: {len(made.rows)} videos, {len(bad)} bad, {size_gb:.3g} GB in {folder}")
    tell_bad(bad)
    for taken in lists_taken(made):
        typer.echo(f"{taken.file}: {len(taken.rows)} of them, as in the list that it was taken from")
    typer.echo(f"next: vmae data bench {made.file}")
