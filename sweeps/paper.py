"""The paper's recipes on its data sets: SSv2, Kinetics-400, UCF101 and HMDB51; what differs between them is in paper_values.

Sources in the comments are as explained there (P, S, I, M).
"""

from dataclasses import replace
from typing import Literal

from sweeps.paper_values import BY_DATASET_AND_SIZE, BY_SIZE, FINETUNING, PRETRAINING, Pretraining
from vmae.config import ContrastConfig, EvaluateConfig, FinetuneConfig, PretrainConfig
from vmae.errors import ConfigError, near
from vmae.grid import CubeGrid
from vmae.imported import ImportedWeights
from vmae.recipe import Alternatives, Recipe
from vmae.sections import (
    ClipConfig,
    FinetuneClipConfig,
    FinetuneOptimConfig,
    ListedSet,
    MaskConfig,
    MixConfig,
    OptimConfig,
)
from vmae.sizes import DECODERS, encoder_of


def recipe(dataset: str, size: str, pretraining: ListedSet, labelled: ListedSet, *, scratch: bool = False) -> Recipe:
    """Return the recipe of `dataset` for a model by the paper's name.

    Args:
        pretraining: the unlabelled list; its splits are `pretrain` and `holdout`.
        labelled: the labelled list; its splits are `train` and `test`.
        scratch: without pre-training, for as many epochs as the paper gives scratch.

    Raises:
        ConfigError: for an unknown data set or size, with the near word.
    """
    if dataset not in PRETRAINING:
        raise ConfigError(f"no recipe for data set {dataset!r}{near(dataset, PRETRAINING)}")
    encoder = encoder_of(size)
    return Recipe(
        grid=CubeGrid(),  # P: 16 frames of 224 px in cubes of 2 x 16 x 16
        encoder=encoder,
        pretrain=None if scratch else _pretrain(PRETRAINING[dataset], size, pretraining),
        finetune=_finetune(dataset, size, labelled, scratch),
        evaluate=EvaluateConfig(num_clips=FINETUNING[dataset].num_clips, num_crops=3),  # P: three crops on all
    )


def recipe_with_alternatives(
    dataset: str, size: str, pretraining: ListedSet, labelled: ListedSet, images: ImportedWeights, supervised: ImportedWeights
) -> Recipe:
    """Return `recipe` with what its ablations put in its place: scratch's epochs, MoCo v3, a linear probe, weights of images."""
    base = recipe(dataset, size, pretraining, labelled)
    instead = Alternatives(
        scratch_epochs=FINETUNING[dataset].scratch_epochs,
        linear_probe=_probe(dataset, labelled, "linear", epochs=100),  # P
        contrast=_contrast(dataset, pretraining),
        image_weights=images,
        supervised_weights=supervised,
    )
    return base.model_copy(update={"instead": instead})


def probe(dataset: str, size: str, pretraining: ListedSet, labelled: ListedSet, kind: str) -> Recipe:
    """Return the recipe with a frozen encoder under a "linear" or "attentive" probe, or "knn".

    The paper gives values for the linear probe on SSv2; the others take them over (I). Nearest neighbours need no training, so
    one epoch of the linear probe stands in for it.
    """
    if kind not in (kinds := ("linear", "attentive", "knn")):
        raise ConfigError(f"no probe {kind!r}{near(kind, kinds)}")
    base = recipe(dataset, size, pretraining, labelled)
    head: Literal["linear", "attentive"] = "attentive" if kind == "attentive" else "linear"
    finetune = _probe(dataset, labelled, head, epochs=1 if kind == "knn" else 100)  # P
    knn = base.evaluate.model_copy(update={"knn": 20})  # I
    return base.model_copy(update={"finetune": finetune, "evaluate": knn if kind == "knn" else base.evaluate})


def _probe(dataset: str, data: ListedSet, head: Literal["linear", "attentive"], epochs: int) -> FinetuneConfig:
    values = FINETUNING[dataset]
    return FinetuneConfig(
        probe=head,
        data=data,
        clip=FinetuneClipConfig(
            sampling=values.sampling,  # type: ignore[arg-type]
            frame_stride=values.stride,
            hflip=values.hflip,
            crop_scales=(1.0, 0.875, 0.75, 0.66),  # P: MultiScaleCrop
        ),
        optim=FinetuneOptimConfig(
            optimizer="sgd",  # P
            epochs=epochs,
            warmup_epochs=min(10.0, epochs - 1.0),  # P
            batch_size=1024,  # P
            base_lr=0.1,  # P
            min_base_lr=0.0,  # I
            weight_decay=0.0,  # P
            beta1=0.9,  # P: momentum
            layer_decay=1.0,  # no layers to decay
        ),
        label_smoothing=0.0,  # I
        drop_path_rate=0.0,  # the encoder is frozen
    )


def _contrast(dataset: str, data: ListedSet) -> ContrastConfig:
    """Return MoCo v3 on clips: epochs from the paper's Table 3, what it does not give from MoCo v3 (ViT-B, arXiv:2104.02057).

    Of MoCo v3's augmentation only crops and flips, no colour jitter, grey, blur and solarising; VideoMAE's own is not known.
    """
    return ContrastConfig(
        data=data,
        clip=FinetuneClipConfig(
            frame_stride=PRETRAINING[dataset].stride,  # I: as the masked pre-training
            crop_area=(0.08, 1.0),  # M
            hflip=FINETUNING[dataset].hflip,  # I: as fine-tuning
        ),
        optim=OptimConfig(
            epochs=300,  # P on SSv2; I elsewhere
            warmup_epochs=40.0,  # M
            batch_size=PRETRAINING[dataset].batch_size,  # I: as the masked pre-training
            base_lr=1.5e-4,  # M
            min_base_lr=0.0,  # M
            weight_decay=0.1,  # M
            beta1=0.9,  # M
            beta2=0.999,  # M
        ),
        temperature=0.2,  # M
        momentum=0.99,  # M
        head_width=4096,  # M
        embedding_width=256,  # M
        frozen_embedding=True,  # M
    )


def _pretrain(values: Pretraining, size: str, data: ListedSet) -> PretrainConfig:
    return PretrainConfig(
        data=data,
        clip=ClipConfig(
            frame_stride=values.stride,
            crop_scales=(1.0, 0.875, 0.75, 0.66),  # S: GroupMultiScaleCrop; P: MultiScaleCrop
            hflip=False,  # S; P says yes on K400, the code flips nowhere
        ),
        mask=MaskConfig(kind="tube", ratio=values.ratio),
        decoder=DECODERS[size],
        optim=OptimConfig(
            epochs=values.epochs,
            warmup_epochs=40.0,  # P, S
            batch_size=values.batch_size,
            base_lr=values.base_lr,
            min_base_lr=1e-5,  # S
            weight_decay=0.05,  # P, S
            beta1=0.9,  # P, S
            beta2=0.95,  # P, S
        ),
    )


def _finetune(dataset: str, size: str, data: ListedSet, scratch: bool) -> FinetuneConfig:
    other = BY_SIZE[size] | BY_DATASET_AND_SIZE.get((dataset, size), {})
    values = replace(FINETUNING[dataset], **other)  # type: ignore[arg-type]
    return FinetuneConfig(
        data=data,
        clip=FinetuneClipConfig(
            sampling=values.sampling,  # type: ignore[arg-type]
            frame_stride=values.stride,
            hflip=values.hflip,
            crop_area=(0.08, 1.0),  # S
            rand_augment="rand-m7-n4-mstd0.5-inc1",  # S; P: (9, 0.5)
            erase_prob=0.25,  # S; P does not list it
        ),
        repeats=values.repeats,
        mix=MixConfig(mixup=0.8, cutmix=1.0),  # P, S
        optim=FinetuneOptimConfig(
            epochs=values.scratch_epochs if scratch else values.epochs,
            warmup_epochs=5.0,  # P, S
            batch_size=values.batch_size,
            base_lr=values.base_lr,
            min_base_lr=values.min_base_lr,
            weight_decay=0.05,  # P, S
            beta1=0.9,  # P, S
            beta2=0.999,  # P, S
            layer_decay=values.layer_decay,
        ),
        label_smoothing=0.1,  # P, S
        drop_path_rate=values.drop_path,
        head_dropout=values.head_dropout,
    )
