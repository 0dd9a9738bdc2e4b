"""The presets: the paper's four data sets, or what stands for them, at three scales, and a fourth for trying things out.

    paper   ViT-B on 16 x 224 px, the paper's epochs, the real lists (`$VMAE_DATA/<name>.csv` and `<name>-pretrain.csv`)
    proxy   one GPU: the embedded videos, 7,000 or 3,500 of them, 512 cubes
    quick   two cores: the embedded videos, 3,000 or 1,000 of them, 128 cubes
    tiny    seconds per run; learns nothing

Embedded stand-ins: moving digits, asked how they move, for Something-Something v2; still digits, asked what they are, for
Kinetics-400; moving digits, asked what they are, for UCF101; and fewer moving digits, asked how they move, for HMDB51.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sweeps import paper
from sweeps.paper_values import NAMES
from sweeps.presets import proxy, quick, tiny
from vmae.config import EvaluateRun, FinetuneRun, PretrainRun, Run
from vmae.errors import ConfigError, near
from vmae.imported import ImportedWeights, Normalisation
from vmae.recipe import Recipe
from vmae.runtime import default_data_root
from vmae.sections import ListedSet
from vmae.study import Plan

PRESETS = ("paper", "proxy", "quick", "tiny")
DEFAULT = "quick"
ON_GPUS = ("paper", "proxy")
SEEDS = (0, 1, 2)
STAND_INS = {
    "digits-motion": "SSV2",
    "digits-still": "K400",
    "digits-appearance": "UCF101",
    "digits-motion-small": "HMDB51",
}
NUM_SMALL = {"proxy": 3500, "quick": 1000, "tiny": 48}
# Videos of each list as its makers give them (analysis/paper.csv, data.sizes), and classes: for planning before the lists are
# there. The held-out clips that judge a pre-training are taken of the test list; nothing is selected on them.
LISTS = {
    "ssv2": (168_913, 24_777, 174),
    "k400": (240_436, 19_796, 400),
    "ucf101": (9_537, 3_783, 101),
    "hmdb51": (3_570, 1_530, 51),
}
NUM_HELDOUT = 1000
DATASETS = tuple(NAMES.values())
# An image MAE's and a classifier's, and what the pixels that each was trained on were normalised by.
WEIGHTS: Mapping[str, Normalisation] = {
    "mae_pretrain_vit_base.pth": "imagenet",
    "vit_base_patch16_224.augreg_in21k.safetensors": "inception",
}


@dataclass(frozen=True)
class Scale:
    """Recipes by data set, what the data sets stand for, and the seeds that a question is asked with."""

    recipes: Mapping[str, Recipe]
    stands_for: Mapping[str, str]
    seeds: tuple[int, ...] = SEEDS


def scale(preset: str) -> Scale:
    """Return a preset; ConfigError with the near word for an unknown one."""
    makers: dict[str, Callable[[str], Recipe]] = {"proxy": proxy, "quick": quick, "tiny": tiny}
    if preset not in PRESETS:
        raise ConfigError(f"no preset {preset!r}{near(preset, PRESETS)}")
    return _paper() if preset == "paper" else Scale(_embedded(makers[preset], NUM_SMALL[preset]), STAND_INS)


def missing_inputs(made: Plan) -> list[str]:
    """Return the lists and weights that a plan's runs read and that are not there yet; only preset paper needs any."""
    if made.sweep.preset != "paper":
        return []
    files = [Path(place) for place in dict.fromkeys(place for run in made.runs.values() for place in _inputs(run))]
    return [str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file) for file in files if not file.exists()]


def _inputs(run: Run) -> Iterator[str]:
    """Yield where the lists and the weights lie that a run itself reads; its parent's are its parent's."""
    model = run.parent if isinstance(run, EvaluateRun) else run
    data = model.pretrain.data if isinstance(model, PretrainRun) else model.finetune.data
    if isinstance(data, ListedSet):
        yield data.manifest
    if isinstance(run, FinetuneRun) and run.weights:
        yield run.weights.path


def _embedded(make: Callable[[str], Recipe], num_small: int) -> dict[str, Recipe]:
    sections = ("pretrain", "finetune", "instead.linear_probe", "instead.contrast")
    still = {f"{section}.data.domain": "still" for section in sections}
    fewer = {f"{section}.subset.num_videos": num_small for section in ("pretrain", "instead.contrast")}
    return {
        "digits-motion": make("motion"),
        "digits-still": make("appearance").replace(still),
        "digits-appearance": make("appearance"),
        "digits-motion-small": make("motion").replace(fewer),
    }


def _paper() -> Scale:
    recipes = {}
    for name in LISTS:
        pretraining, labelled = _lists(name)
        images, supervised = (_weights(file) for file in WEIGHTS)
        recipes[NAMES[name]] = paper.recipe_with_alternatives(name, "vit_b", pretraining, labelled, images, supervised)
    return Scale(recipes, {name: name for name in recipes})


def _list_files(name: str) -> tuple[Path, Path]:
    return default_data_root() / f"{name}-pretrain.csv", default_data_root() / f"{name}.csv"


def _lists(name: str) -> tuple[ListedSet, ListedSet]:
    """Return the unlabelled and the labelled list: as they lie on disk, or with the papers' counts and no hash."""
    from vmae.data.source import listed_set

    num_train, num_test, num_classes = LISTS[name]
    counts = ({"pretrain": num_train, "holdout": min(NUM_HELDOUT, num_test)}, {"train": num_train, "test": num_test})
    made = []
    for file, count, classes in zip(_list_files(name), counts, (None, num_classes), strict=True):
        if file.exists():
            made.append(listed_set(file, name, classes))
        else:
            made.append(ListedSet(name=name, list_sha256=_stand_in(file), num_classes=classes, manifest=str(file), counts=count))
    return made[0], made[1]


def _stand_in(file: Path) -> str:
    """Return a hash that no content has, one per file, so that runs on files that are not there yet stay apart."""
    return hashlib.sha256(f"not there: {file.name}".encode()).hexdigest()


def _weights_file(name: str) -> Path:
    return default_data_root() / "weights" / name


def _weights(name: str) -> ImportedWeights:
    """Return released weights by their file's hash; without the file, a stand-in that no run will accept."""
    from vmae.files import file_sha256

    file = _weights_file(name)
    content = file_sha256(file) if file.exists() else _stand_in(file)
    return ImportedWeights(name=file.stem, sha256=content, path=str(file), normalisation=WEIGHTS[name])
