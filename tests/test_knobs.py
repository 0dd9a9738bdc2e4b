"""A knob that does nothing is the worst bug of an ablation suite: every field of the config moves the id and the numbers."""

import hashlib
import itertools
from typing import Literal, get_args, get_origin

import pytest
from helpers import run_chain

from vmae.arms import value_at
from vmae.data.make import make_embedded
from vmae.identity import NotIdentity, mark, run_id
from vmae.recipe import Recipe, leaves
from vmae.runs import Store

ALTERNATIVES = {
    "grid.num_frames": 8,
    "grid.size_px": 16,
    "grid.tubelet_frames": 4,
    "grid.patch_px": 4,
    "encoder.width": 24,
    "encoder.depth": 1,
    "encoder.num_heads": 4,
    "encoder.mlp_ratio": 1.0,
    "encoder.positions": "sincos_1d",
    "pretrain.seed": 1,
    "pretrain.data.seed": 1,
    "pretrain.data.domain": "still",
    "pretrain.subset.num_videos": 48,
    "pretrain.subset.seed": 1,
    "pretrain.clip.frame_stride": 2,
    "pretrain.clip.crop_scales": (1.0, 0.75),
    "pretrain.clip.hflip": True,
    "pretrain.clip.roll": True,
    "pretrain.repeats": 2,
    "pretrain.repeats_share_frames": True,
    "pretrain.mask.kind": "random",
    "pretrain.mask.ratio": 0.5,
    "pretrain.mask.count": "bernoulli",
    "pretrain.decoder_mask.kind": "running_cell",
    "pretrain.decoder_mask.kept": 0.25,
    "pretrain.decoder.width": 12,
    "pretrain.decoder.depth": 2,
    "pretrain.decoder.num_heads": 4,
    "pretrain.decoder.mlp_ratio": 1.0,
    "pretrain.decoder.positions": "sincos_1d",
    "pretrain.target": "normalised",
    "pretrain.target_frames": "double_rate",
    "pretrain.loss": "l1",
    "pretrain.loss_beta": 0.1,
    "pretrain.loss_region": "all",
    "pretrain.optim.optimizer": "sgd",
    "pretrain.optim.epochs": 3,
    "pretrain.optim.warmup_epochs": 1.0,
    "pretrain.optim.batch_size": 8,
    "pretrain.optim.base_lr": 1e-3,
    "pretrain.optim.min_base_lr": 1e-3,
    "pretrain.optim.weight_decay": 0.5,
    "pretrain.optim.beta1": 0.5,
    "pretrain.optim.beta2": 0.5,
    "pretrain.optim.grad_clip_norm": 1e-3,
    "pretrain.precision": "bf16",
    "pretrain.heldout_split": "test",
    "finetune.seed": 1,
    "finetune.data.seed": 1,
    "finetune.data.labels": "appearance",
    "finetune.data.domain": "still",
    "finetune.subset.num_videos": 24,
    "finetune.subset.seed": 1,
    "finetune.clip.frame_stride": 2,
    "finetune.clip.crop_scales": (1.0, 0.75),
    "finetune.clip.hflip": True,
    "finetune.clip.roll": True,
    "finetune.probe": "linear",
    "finetune.optim.optimizer": "sgd",
    "finetune.optim.epochs": 2,
    "finetune.optim.warmup_epochs": 1.0,
    "finetune.optim.batch_size": 8,
    "finetune.optim.base_lr": 1e-3,
    "finetune.optim.min_base_lr": 1e-3,
    "finetune.optim.weight_decay": 0.5,
    "finetune.optim.beta1": 0.5,
    "finetune.optim.beta2": 0.5,
    "finetune.optim.grad_clip_norm": 1e-3,
    "finetune.optim.layer_decay": 0.5,
    "finetune.clip.sampling": "tsn",
    "finetune.clip.crop_area": (0.3, 1.0),
    "finetune.clip.rand_augment": "rand-m7-n4-mstd0.5-inc1",
    "finetune.clip.erase_prob": 0.5,
    "finetune.repeats": 2,
    "finetune.mix.mixup": 0.8,
    "finetune.mix.cutmix": 1.0,
    "finetune.mix.prob": 0.5,
    "finetune.mix.switch_prob": 0.9,
    "finetune.head_dropout": 0.5,
    "finetune.ema_decay": 0.9,
    "finetune.label_smoothing": 0.0,
    "finetune.drop_path_rate": 0.5,
    "finetune.precision": "bf16",
    "evaluate.split": "holdout",
    "evaluate.num_clips": 2,
    "evaluate.num_crops": 3,
    "evaluate.knn": 5,
    "evaluate.precision": "bf16",
}
NEEDS = {
    "pretrain.subset.seed": {"pretrain.subset.num_videos": 48},
    "finetune.subset.seed": {"finetune.subset.num_videos": 24},
    "pretrain.repeats_share_frames": {"pretrain.repeats": 2},
    "finetune.data.domain": {"finetune.data.labels": "appearance"},  # what a field acts on
    "pretrain.decoder_mask.kept": {"pretrain.decoder_mask.kind": "random"},
    "pretrain.target_frames": {"pretrain.clip.frame_stride": 2},
    "pretrain.loss_beta": {"pretrain.loss": "smooth_l1"},
    "finetune.probe": {"finetune.optim.layer_decay": 1.0},
    "finetune.mix.prob": {"finetune.mix.mixup": 0.8},
    "finetune.mix.switch_prob": {"finetune.mix.mixup": 0.8, "finetune.mix.cutmix": 1.0},
}
OTHER_VALUES = {  # values of fields above that take another path through the code
    "pretrain.mask.kind": ("frame", "random_per_slice", "block", "multi_block"),
    "pretrain.decoder_mask.kind": ("random",),
    "pretrain.target": ("normalised_pooled",),
    "pretrain.target_frames": ("centre",),
    "pretrain.loss": ("smooth_l1",),
    "encoder.positions": ("learned",),
    "finetune.probe": ("attentive",),
    "pretrain.decoder.positions": ("learned",),
    "pretrain.precision": ("bf16_residual",),
    "finetune.precision": ("bf16_residual",),
}
ONE_VALUE_TODAY = {  # fields that the embedded set leaves no choice in
    "pretrain.data.source",
    "pretrain.data.version",
    "pretrain.data.labels",
    "finetune.data.source",
    "finetune.data.version",
}
SQUARE = {"evaluate.num_crops"}  # three crops of a square video are one: tests/vmae/train/test_listed.py
FROM_SCRATCH_ONLY = {"finetune.init"}  # seen at the end of this file
# tests/vmae/model/test_checkpoints.py, test_images.py; another method is another section: tests/vmae/train/test_contrast.py;
# what happens to a step whose loss is no number: tests/vmae/train/test_resume.py
OTHER_TESTS = {"weights", "pretrain_grid", "pretrain.method", "pretrain.optim.max_left_out", "finetune.optim.max_left_out"}
OTHER_VIDEOS = {"pretrain.data.size", "finetune.data.size"}  # another size is other videos: seen below without making them


@pytest.fixture(scope="module")
def recipe(recipe) -> Recipe:
    # Every knob must have something to act on: no clipping, decay or smoothing at zero, a cosine with room below.
    return recipe.replace({"pretrain.optim.beta1": 0.9, "finetune.optim.layer_decay": 0.75, "finetune.drop_path_rate": 0.0})


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("knobs"))


@pytest.fixture(scope="module", autouse=True)
def _second_generator_seed(data_root):
    make_embedded(data_root, "tiny", seed=1, num_workers=2, progress=False)
    make_embedded(data_root, "tiny", num_workers=2, progress=False, domain="still")


def observe(store, recipe, runtime, stage) -> dict:
    """All numbers that a stage leaves, without those of time and place."""
    run = next(run for run in recipe.runs() if run.stage == stage)
    result = run_chain(store, recipe, runtime, upto=stage)[stage]
    place = store.run(run_id(run))
    rows = [line.split('"metric"')[1] for line in place.metrics.read_text().splitlines()] if place.metrics.exists() else []
    kept = [row for row in rows if not any(name in row for name in ("clips_per_s", "data_wait", "train_s"))]
    predictions = place.predictions.read_text() if place.predictions.exists() else ""
    weights = hashlib.sha256(place.weights.read_bytes()).hexdigest() if place.weights.exists() else ""
    return {"rows": kept, "metrics": result.metrics, "predictions": predictions, "weights": weights}


def test_every_field_has_an_alternative(recipe):
    fields = {path for path in leaves(recipe) if not path.startswith("instead.")}  # in reserve for arms, part of no run
    assert fields == set(ALTERNATIVES) | ONE_VALUE_TODAY | OTHER_VIDEOS | FROM_SCRATCH_ONLY | OTHER_TESTS


def words_of(recipe, path) -> set[str]:
    """The words that a field may be, where it is a choice of words."""
    section, _, name = path.rpartition(".")
    annotation = type(value_at(recipe, section)).model_fields[name].annotation
    kinds = [kind for kind in (annotation, *get_args(annotation)) if get_origin(kind) is Literal]
    return {word for kind in kinds for word in get_args(kind) if isinstance(word, str)}


def tried(path) -> list:
    return [ALTERNATIVES[path], *OTHER_VALUES.get(path, ())]


@pytest.mark.parametrize("path", [path for path, value in ALTERNATIVES.items() if isinstance(value, str)])
def test_every_word_of_a_choice_is_tried(path, recipe):
    words = words_of(recipe, path)
    assert not words or words == {value_at(recipe, path), *tried(path)}


@pytest.mark.parametrize("path", OTHER_VALUES)
def test_no_two_words_of_a_choice_give_the_same(path, recipe, shared_store, runtime):
    """One that nothing was written for would be another's numbers under its own name."""
    recipe = recipe.replace(NEEDS.get(path, {}))
    stage = path.split(".")[0] if path.startswith("finetune") else "pretrain"
    seen = [
        observe(shared_store, recipe.replace({path: word}), runtime, stage)
        for word in tried(path)
        if word in words_of(recipe, path)
    ]
    assert all(one != other for one, other in itertools.combinations(seen, 2))


@pytest.mark.parametrize(
    ("path", "value"), [*ALTERNATIVES.items(), *((path, value) for path, values in OTHER_VALUES.items() for value in values)]
)
def test_knob_moves_the_id_and_the_numbers(path, value, recipe, shared_store, runtime):
    section = path.split(".")[0]
    stage = section if section in ("pretrain", "finetune", "evaluate") else "pretrain"
    recipe = recipe.replace(NEEDS.get(path, {}))
    changed = recipe.replace({path: value})
    before, after = ({run.stage: run_id(run) for run in r.runs()} for r in (recipe, changed))
    for later in ("pretrain", "finetune", "evaluate")[("pretrain", "finetune", "evaluate").index(stage) :]:
        assert before[later] != after[later], "the id of the stage and of all that follows moves"
    differs = observe(shared_store, recipe, runtime, stage) != observe(shared_store, changed, runtime, stage)
    assert differs == (path not in SQUARE)


@pytest.mark.parametrize("path", ["grid.num_frames", "encoder.width", "finetune.data.labels"])
def test_shared_knobs_reach_fine_tuning_too(path, recipe, shared_store, runtime):
    scratch, changed = (r.replace({"pretrain": None}) for r in (recipe, recipe.replace({path: ALTERNATIVES[path]})))
    assert observe(shared_store, scratch, runtime, "finetune") != observe(shared_store, changed, runtime, "finetune")


def test_a_repeated_run_is_bit_equal(recipe, shared_store, tmp_path, runtime):
    """Without this, every knob above would pass by noise."""
    for stage in ("pretrain", "finetune", "evaluate"):
        assert observe(shared_store, recipe, runtime, stage) == observe(Store(tmp_path), recipe, runtime, stage)


def test_size_moves_the_id_and_the_videos(recipe):
    for path in OTHER_VIDEOS:
        changed = recipe.replace({path: "quick"})
        assert [run_id(r) for r in changed.runs()][-1] != [run_id(r) for r in recipe.runs()][-1]
        assert changed.finetune.data.num_videos("train") * changed.pretrain.data.num_videos("pretrain") != 64 * 32


def test_no_field_of_a_run_on_embedded_videos_is_outside_identity(recipe):
    for config in (recipe.pretrain, recipe.finetune, recipe.evaluate, recipe.grid, recipe.encoder, recipe.pretrain.optim):
        assert not [name for name in type(config).model_fields if mark(type(config), name, NotIdentity)]


def test_init_moves_what_starts_from_scratch(recipe, shared_store, runtime):
    """With a parent the blocks are loaded, so this knob can only show without one."""
    scratch, changed = (r.replace({"pretrain": None}) for r in (recipe, recipe.replace({"finetune.init": "trunc_normal"})))
    assert observe(shared_store, scratch, runtime, "finetune") != observe(shared_store, changed, runtime, "finetune")
