"""Bad input gets a clear error before any job exists: the value, what is allowed, the near word."""

import pytest

from sweeps.presets import quick
from vmae.errors import ConfigError, near
from vmae.grid import CubeGrid
from vmae.recipe import Recipe, leaves, load_run, parse_setting, validate
from vmae.sections import ListedSet, MaskConfig

PAPER = CubeGrid()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pretrain.mask.ration": 0.9}, ["'ration'", "Did you mean 'ratio'", "kind, ratio"]),
        ({"pretrian.mask.ratio": 0.9}, ["'pretrian'", "Did you mean 'pretrain'"]),
        (
            {"epochs": 10},
            ["recipe has no field 'epochs'. Did you mean pretrain.optim.epochs or finetune.optim.epochs? "],
        ),
        ({"mask.ratio": 0.9}, ["no field 'mask'. Did you mean pretrain.mask.ratio?"]),
        ({"pretrain.epochs": 10}, ["pretrain has no field 'epochs'. Did you mean pretrain.optim.epochs?"]),
        ({"scratch_epochs": 10}, ["Did you mean instead.scratch_epochs?"]),
        ({"runtime.micro_batch_size": 4}, ["a profile's [runtime]: see --profile"]),
        ({"pretrain.mask.kind": "tubes"}, ["pretrain.mask.kind", "'tubes'", "'block' or 'multi_block'"]),
        ({"pretrain.mask.ratio": 1.0}, ["pretrain.mask.ratio", "1.0", "less than 1"]),
        ({"pretrain.mask.ratio": 0.0}, ["pretrain.mask.ratio", "greater than 0"]),
        ({"pretrain.mask.ratio": "0.9"}, ["pretrain.mask.ratio", "'0.9'", "valid number"]),
        ({"pretrain.mask.ratio": 0.01}, ["hides nothing", "0.0625 <= ratio"]),
        ({"pretrain.mask.kind": "frame", "pretrain.mask.ratio": 0.9}, ["0.9", "1/8", "0.875"]),
        ({"grid.num_frames": 15}, ["num_frames = 15", "tubelet_frames = 2"]),
        ({"grid.size_px": 30}, ["size_px = 30", "patch_px = 8"]),
        ({"pretrain.optim.batch_size": 5000}, ["5000", "3000 videos", "an epoch would have no step"]),
        ({"finetune.optim.batch_size": 401}, ["401", "400 videos"]),
        ({"encoder.num_heads": 5}, ["width = 96", "num_heads = 5"]),
        ({"pretrain.optim.warmup_epochs": 5000.0}, ["warmup_epochs = 5000"]),
        (
            {"pretrain.optim.epochs": 1, "pretrain.optim.batch_size": 750, "pretrain.optim.warmup_epochs": 0.9},
            ["pretrain.optim.warmup_epochs = 0.9 rounds to all 4 steps", "at most 0.75"],
        ),
        ({"finetune.optim.epochs": 2, "finetune.optim.warmup_epochs": 1.99}, ["finetune.optim.warmup_epochs = 1.99", "32 steps"]),
        ({"evaluate.split": "train", "evaluate.knn": 5}, ["evaluate.split = 'train'", "find itself"]),
        ({"pretrain.optim.min_base_lr": 1.0}, ["min_base_lr = 1"]),
        ({"pretrain.heldout_split": "houldout"}, ["'houldout'", "Did you mean 'holdout'"]),
        ({"evaluate.split": "tets"}, ["'tets'", "Did you mean 'test'"]),
        ({"pretrain.data.labels": "motion"}, ["reads no labels"]),
        ({"finetune.data.labels": None}, ["needs labels", "motion, appearance"]),
        ({"finetune.data.size": "huge"}, ["'huge'", "'tiny', 'quick' or 'full'"]),
        ({"finetune.seed": -1}, ["finetune.seed", "-1"]),
        ({"grid": 3}, ["grid"]),
        ({"grid.size_px.x": 3}, ["grid.size_px", "is a value, not a section"]),
        ({"pretrain.optim.base_lr": float("nan")}, ["pretrain.optim.base_lr", "finite"]),
        ({"pretrain.target": False}, ["pretrain.target", "'normalised_pooled' or 'raw'"]),
        ({"finetune.clip.hflip": "False"}, ["finetune.clip.hflip", "boolean"]),
        ({"finetune.clip.rand_augment": "m7-n4"}, ["finetune.clip.rand_augment", "'m7-n4'", "rand, then any of", "rand-m7-n4"]),
        ({"finetune.clip.rand_augment": "rand-m7-mstd"}, ["'rand-m7-mstd'", "-mstdX"]),
        ({"finetune.clip.rand_augment": "rand-m7.5"}, ["'rand-m7.5'", "-mN (strength)"]),
    ],
)
def test_bad_values_say_what_is_wrong(settings, words):
    with pytest.raises(ConfigError) as caught:
        quick("motion").replace(settings).runs()
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("grid", "fits"),
    [
        ({}, True),
        ({"num_frames": 8}, False),
        ({"size_px": 64}, False),
        ({"num_frames": 4, "size_px": 64}, False),  # as many cubes, elsewhere
        ({"num_frames": 1, "tubelet_frames": 1}, True),
        ({"num_frames": 1, "tubelet_frames": 1, "size_px": 64}, False),
    ],
)
def test_learned_positions_fit_the_grid_or_are_refused_before_any_training(grid, fits):
    """As loading would find after it; fixed positions go with every grid of the same cubes."""
    base = quick("motion").replace({"evaluate.knn": None})
    other = base.replace({"pretrain_grid": (base.grid.model_copy(update=grid)).model_dump()})
    other.runs()
    learned = other.replace({"encoder.positions": "learned", "pretrain.decoder.positions": "sincos_3d"})
    if fits:
        learned.runs()
        return
    with pytest.raises(ConfigError, match=r"encoder\.positions = 'learned' of a pre-training on .* allowed: the same"):
        learned.runs()


@pytest.mark.parametrize(
    ("word", "allowed", "meant"),
    [
        ("ssv2", ["K400", "SSV2"], "SSV2"),
        ("Ration", ["kind", "ratio"], "ratio"),
        ("0.9", ["scratch", "tube 0.9"], "tube 0.9"),
        ("motion", ["still", "digits-motion-of-a-size", "embedded-digits-motion"], "embedded-digits-motion"),
        ("e", ["frame", "tube"], None),
        ("", ["frame", "tube 0.9"], None),
    ],
)
def test_the_near_word_is_found_in_other_letters_and_at_the_end_of_a_name(word, allowed, meant):
    hint = "." if meant is None else f". Did you mean {meant!r}?"
    assert near(word, allowed) == f"{hint} Allowed: {', '.join(allowed)}"


LISTED = ListedSet(name="mine", list_sha256="0" * 64, manifest="mine.csv", counts={"train": 100, "test": 50})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"finetune.data": LISTED}, ["finetune.data.num_classes is null", "the number of the list's classes"]),
        (
            {"pretrain.data": LISTED},
            ["mine.csv has no split 'holdout'", "vmae data prepare list mine.csv --format csv --holdout"],
        ),
    ],
)
def test_a_list_of_ones_own_that_lacks_something_says_how_to_have_it(settings, words):
    with pytest.raises(ConfigError) as caught:
        quick("motion").replace(settings).runs()
    for word in words:
        assert word in str(caught.value)


def test_a_field_of_an_absent_section():
    with pytest.raises(ConfigError, match=r"pretrain is null"):
        quick("motion").replace({"pretrain": None}).replace({"pretrain.mask.ratio": 0.5})


def test_an_unknown_key_in_a_file_names_the_near_word_and_the_file():
    values = quick("motion").model_dump()
    values["pretrain"]["mask"]["ration"] = 0.9
    with pytest.raises(ConfigError, match=r"config\.json.*pretrain\.mask\.ration: unknown key.*Did you mean 'ratio'"):
        validate(Recipe, values, "config.json")
    with pytest.raises(ConfigError, match=r"config\.json"):
        load_run("{}", "config.json")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b=0.9", ("a.b", 0.9)),
        ("a=true", ("a", True)),
        ("a=null", ("a", None)),
        ("a=frame", ("a", "frame")),
        ("a=[1.0, 0.5]", ("a", (1.0, 0.5))),
    ],
)
def test_settings_are_typed(text, expected):
    assert parse_setting(text) == expected


@pytest.mark.parametrize("text", ["a", "=3", ""])
def test_settings_need_path_and_value(text):
    with pytest.raises(ConfigError, match="path=value"):
        parse_setting(text)


def test_the_papers_counts():
    """Reference 4.2: tube 0.9 hides 176 of 196 positions in 8 slices; random floor(0.9 x 1568)."""
    assert MaskConfig(kind="tube", ratio=0.9).num_hidden(PAPER) == 1408
    assert MaskConfig(kind="random", ratio=0.9).num_hidden(PAPER) == 1411
    assert MaskConfig(kind="frame", ratio=0.875).num_hidden(PAPER) == 7 * 196
    assert (PAPER.num_cubes, PAPER.cube_values) == (1568, 1536)


def test_leaves_are_dotted_paths():
    found = leaves(quick("motion"))
    assert found["pretrain.mask.ratio"] == 0.75
    assert "grid.num_frames" in found
    assert not any(isinstance(value, dict) for value in found.values())
