"""`vmae data prepare`, `scan` and `subset`: from downloaded files to lists that runs read, and a look at every video."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from vmae.data.foreign import FORMATS, SPLIT_WORDS, read_foreign
from vmae.data.listing import Listing, Prepared, files_among, prepare, subset_list
from vmae.data.lookup import ENDINGS, VideoFiles
from vmae.data.manifest import Manifest, beside
from vmae.data.official import read_official
from vmae.data.quarantine import Quarantined
from vmae.data.scan import SECONDS_PER_VIDEO, Scan, Seen, scan
from vmae.errors import DataError
from vmae.runtime import default_data_root

prepare_app = typer.Typer(
    help="Lists of a data set, from its official files or another project's lists. docs/data.md shows each from the download on.",
    no_args_is_help=True,
)
NUM_SHOWN = 10
KINDS = {"raised": "cannot be read", "deadline": "took too long", "died": "crashed the decoder"}  # of vmae.data.deadline

Root = Annotated[Path, typer.Option(help="Folder that holds the videos, at any depth.")]
Splits = Annotated[list[Path], typer.Option(help="Official list files, or a folder that holds them. May be repeated.")]
SplitNumber = Annotated[int, typer.Option(min=1, max=3, help="Of UCF101's and HMDB51's three splits.")]
Out = Annotated[Path | None, typer.Option(help="The list to write. Default: NAME.csv in $VMAE_DATA, or ./data")]
SkipAbsent = Annotated[bool, typer.Option(help="Leave out videos that are listed but not there, and record how many.")]
Holdout = Annotated[int, typer.Option(min=0, help="Train videos to set apart as `holdout`, for selecting on.")]
Heldout = Annotated[int, typer.Option(min=1, help="Without --holdout: test videos that pre-training is judged on.")]
Seed = Annotated[int, typer.Option(min=0, help="Of what is drawn.")]
Ending = Annotated[list[str] | None, typer.Option(help=f"Kinds of files to look at. Default: all of {', '.join(ENDINGS)}.")]


def _official(dataset: str, paper_name: str) -> None:
    def command(
        root: Root,
        splits: Splits,
        split_number: SplitNumber = 1,
        out: Out = None,
        skip_absent: SkipAbsent = False,
        holdout: Holdout = 0,
        heldout: Heldout = 1000,
        seed: Seed = 0,
        ending: Ending = None,
    ) -> None:
        listing = read_official(dataset, files_among(splits), split_number)
        _write(listing, root, out or default_data_root() / f"{dataset}.csv", ending, skip_absent, holdout, heldout, seed)

    command.__doc__ = (
        f"Lists of {paper_name} from its official files.\n\nExample: vmae data prepare {dataset} --root VIDEOS --splits LISTS"
    )
    prepare_app.command(dataset)(command)


for _dataset, _name in {"ssv2": "Something-Something v2", "k400": "Kinetics-400", "ucf101": "UCF101", "hmdb51": "HMDB51"}.items():
    _official(_dataset, _name)


@prepare_app.command("list")
def foreign(
    files: Annotated[
        list[Path], typer.Argument(help="List files (train.csv, val.csv, ...), or the folder of them or of classes.")
    ],
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")],
    out: Annotated[Path, typer.Option(help="The list to write.")],
    root: Annotated[Path | None, typer.Option(help="Folder that paths are relative to. Default: that of the first list.")] = None,
    split: Annotated[str | None, typer.Option(help=f"Of the list: {', '.join(dict.fromkeys(SPLIT_WORDS.values()))}.")] = None,
    classes: Annotated[Path | None, typer.Option(help="Class names, one a line, in the order of their labels.")] = None,
    skip_absent: SkipAbsent = False,
    holdout: Holdout = 0,
    heldout: Heldout = 1000,
    seed: Seed = 0,
    ending: Ending = None,
) -> None:
    """Lists of another project, or plain class folders.

    Example: vmae data prepare list train.csv val.csv --format videomae --root VIDEOS --out data/mine.csv
    """
    if out.absolute() in [file.absolute() for file in files]:
        raise DataError(f"--out {out} is the list itself; give another name")
    place = (root or (files[0] if files[0].is_dir() else files[0].parent)).absolute()
    listing = read_foreign(files, format, place, split, classes)
    _write(listing, place, out, ending, skip_absent, holdout, heldout, seed)


def _write(
    listing: Listing,
    root: Path,
    out: Path,
    ending: Sequence[str] | None,
    skip_absent: bool,
    holdout: int,
    heldout: int,
    seed: int,
) -> None:
    if not out.name or out.is_dir():
        raise DataError(f"--out {str(out)!r} is a folder; give the list's name, for example {out / 'mine.csv'}")
    videos = VideoFiles(root, ending or ENDINGS, progress=True)
    made = prepare(listing, videos, out, skip_absent=skip_absent, holdout=holdout, heldout=heldout, seed=seed)
    _tell(made)


def _tell(made: Prepared) -> None:
    for manifest in (made.labelled, made.pretraining):
        if manifest is not None:
            _describe(manifest)
    if made.labelled is not None and made.labelled.about.classes:
        classes = made.labelled.about.classes
        typer.echo(f"{len(classes)} classes, from 0 {classes[0]!r} to {len(classes) - 1} {classes[-1]!r}")
        trained = {row.label for row in made.labelled.rows if row.split == "train"}
        if unseen := [label for label in range(len(classes)) if label not in trained]:
            typer.echo(f"{len(unseen)} of them have no train video, the first: {unseen[0]} {classes[unseen[0]]!r}")
    asked, taken = (made.pretraining.about.made[key] for key in ("holdout", "holdout_taken"))
    if asked != taken:
        typer.echo(f"{taken} videos held out, not {asked}: clips of one recording stay together")
    if made.absent:
        typer.echo(f"{len(made.absent)} listed videos are not there and were left out, the first: {made.absent[0].names[0]}")
    typer.echo(f"next: vmae data scan {(made.labelled or made.pretraining).file}")


def _describe(manifest: Manifest) -> None:
    counts = ", ".join(f"{count} {split}" for split, count in manifest.counts().items())
    typer.echo(f"{manifest.file}: {counts}; list sha256 {manifest.list_sha256[:12]}")


def scan_command(
    file: Annotated[Path, typer.Argument(help="A list: csv with path,label,split.")],
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: all cores.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="For one video; then its process is killed.")] = SECONDS_PER_VIDEO,
    backend: Annotated[str, typer.Option(help="The decoder that training will use.")] = "auto",
    again: Annotated[bool, typer.Option(help="Look again at files that were bad and have not changed.")] = False,
) -> None:
    """Decode every video of a list and set the bad ones aside; an interrupted scan goes on.

    Example: vmae data scan data/ssv2.csv
    """
    _report(file, scan(file, workers, seconds, backend, again))


def _report(file: Path, done: Scan) -> None:
    typer.echo(f"{len(done.rows)} videos, {done.num_decoded} looked at now, {len(done.bad)} bad")
    for kind, count in Counter(row.kind for row in done.bad).items():
        typer.echo(f"  {count} {KINDS.get(kind, kind)}")
    tell_bad(done.bad)
    typer.echo(f"all: {beside(file, 'scan.csv')}, set aside: {beside(file, 'quarantine.csv')}")


def tell_bad(rows: Sequence[Seen | Quarantined]) -> None:
    """Print the first bad videos with their reasons, and how many more there are."""
    for row in rows[:NUM_SHOWN]:
        typer.echo(f"  {row.path}: {row.reason}")
    if len(rows) > NUM_SHOWN:
        typer.echo(f"  and {len(rows) - NUM_SHOWN} more")


def subset_command(
    file: Annotated[Path, typer.Argument(help="A list: csv with path,label,split.")],
    sizes: Annotated[str, typer.Option(help="Numbers of videos, for example 1000,3500,10000.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the choice; of one seed, each lies within every larger.")] = 0,
    split: Annotated[str, typer.Option(help="The split to take fewer of.")] = "pretrain",
) -> None:
    """Write lists with fewer videos of a split: nested, with its shares of classes, named after size, seed and hash.

    Example: vmae data subset data/ssv2-pretrain.csv --sizes 1000,3500,10000,42000,84000
    """
    try:
        numbers = [int(size) for size in sizes.split(",")]
    except ValueError:
        raise DataError(f"--sizes {sizes!r}: expected numbers with commas, for example 1000,3500") from None
    for manifest in subset_list(file, numbers, seed, split):
        _describe(manifest)
