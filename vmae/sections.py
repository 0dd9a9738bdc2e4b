"""The sections a run's config is made of: videos, clips, model, mask, optimiser. Each field with its unit and range.

Defaults are the paper's ablation setting (Tong et al. 2022, section 4 and appendix), and the released scripts' where the paper is
silent.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from vmae.data.embedded import DOMAINS, EMBEDDED_VERSION, LABEL_SETS, SIZES
from vmae.errors import near
from vmae.grid import Config, CubeGrid
from vmae.identity import NotIdentity, OmitWhen, Seed
from vmae.timms import RandAugment

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
RandomSeed = Annotated[int, Field(ge=0, lt=2**32), Seed()]
Precision = Literal["fp32", "bf16", "bf16_residual"]


class EmbeddedSet(Config):
    """The generated videos of digits; `labels` chooses which question is asked about the same clips."""

    source: Literal["embedded"] = "embedded"
    size: Literal["tiny", "quick", "full"] = "quick"
    seed: Annotated[int, Field(ge=0, lt=2**32, description="of the generator; not a replicate seed")] = 0
    version: Annotated[int, Field(ge=EMBEDDED_VERSION, le=EMBEDDED_VERSION)] = EMBEDDED_VERSION
    domain: Annotated[
        Literal["moving", "still"], OmitWhen("moving"), Field(description="whether the digit travels; still has no motion labels")
    ] = "moving"
    labels: Literal["motion", "appearance"] | None = None

    @model_validator(mode="after")
    def _labels_mean_something(self) -> "EmbeddedSet":
        if self.labels and self.labels not in DOMAINS[self.domain]:
            raise ValueError(f"labels = {self.labels!r} with domain = {self.domain!r}{near(self.labels, DOMAINS[self.domain])}")
        return self

    def num_videos(self, split: str) -> int:
        """Return the videos of `split`; ValueError for an unknown one."""
        return _count(SIZES[self.size], split, f"embedded set {self.size!r}")

    @property
    def num_classes(self) -> int | None:
        """Classes of the chosen label set."""
        return LABEL_SETS[self.labels] if self.labels else None

    @property
    def name(self) -> str:
        """How tables call this data set."""
        domain = [] if self.domain == "moving" else [self.domain]
        return "-".join(["digits", self.size, *domain, *([self.labels] if self.labels else [])])


class ListedSet(Config):
    """Any videos named by a manifest (csv: path,label,split). What is listed is identity; where it lies is not."""

    source: Literal["list"] = "list"
    name: Annotated[str, NotIdentity(), Field(min_length=1, description="how tables call this data set")]
    list_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    num_classes: Annotated[int, Field(ge=2)] | None = None
    manifest: Annotated[str, NotIdentity()]
    counts: Annotated[dict[str, int], NotIdentity(), Field(description="videos per split; follows from the list")]

    def num_videos(self, split: str) -> int:
        """Return the videos of `split`; ValueError for an unknown one."""
        if split not in self.counts and split in ("pretrain", "holdout"):
            raise ValueError(
                f"manifest {self.manifest} has no split {split!r}{near(split, self.counts)}; make lists that have it: "
                f"vmae data prepare list {self.manifest} --format csv --holdout 100 --out OTHER.csv; it is in OTHER-pretrain.csv"
            )
        return _count(self.counts, split, f"manifest {self.manifest}")


def _count(counts: Mapping[str, int], split: str, where: str) -> int:
    if split not in counts:
        raise ValueError(f"{where} has no split {split!r}{near(split, counts)}")
    return counts[split]


VideoSet = Annotated[EmbeddedSet | ListedSet, Field(discriminator="source")]


class SubsetConfig(Config):
    """Fewer videos of a split: nested, stratified by label where there are labels, drawn by a seed that is no replicate's."""

    num_videos: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32, description="which videos; part of the cell, not of its replicates")] = 0

    @model_validator(mode="after")
    def _has_effect(self) -> "SubsetConfig":
        if self.num_videos is None and self.seed:
            raise ValueError(f"subset.seed = {self.seed} would do nothing: subset.num_videos is null")
        return self


class ClipConfig(Config):
    """How a clip is taken from a video: exact constant stride, random start, random crop."""

    frame_stride: Annotated[int, Field(ge=1, description="frames; 2 on SSv2, 4 on K400")] = 4
    crop_scales: Annotated[
        tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...],
        Field(min_length=1, description="short-side shares; released pre-training draws from (1, .875, .75, .66)"),
    ] = (1.0,)
    hflip: Annotated[bool, Field(description="flip half of the clips; wrong where left and right are labels")] = False
    roll: Annotated[bool, Field(description="shift cyclically in space; right only on a torus, as the embedded set is")] = False


class FinetuneClipConfig(ClipConfig):
    """A clip for supervised training, and how the released fine-tuning alters it. What is left null or zero is not done."""

    sampling: Annotated[
        Literal["dense", "tsn"], OmitWhen("dense"), Field(description="frame_stride apart; or one from each segment (SSv2)")
    ] = "dense"
    crop_area: Annotated[
        tuple[Annotated[float, Field(gt=0.0, le=1.0)], Annotated[float, Field(gt=0.0, le=1.0)]] | None,
        OmitWhen(None),
        Field(description="shares of the frame's area at aspects 3/4 to 4/3, instead of crop_scales; released: (0.08, 1)"),
    ] = None
    rand_augment: Annotated[
        RandAugment | None,
        OmitWhen(None),
        Field(description="timm's words; released: rand-m7-n4-mstd0.5-inc1; alike in all frames"),
    ] = None
    erase_prob: Annotated[
        float, OmitWhen(0.0), Field(ge=0.0, le=1.0, description="of a box of noise through all frames; released: 0.25")
    ] = 0.0

    @model_validator(mode="after")
    def _has_effect(self) -> "FinetuneClipConfig":
        if self.sampling == "tsn" and self.frame_stride != 1:
            raise ValueError(f"frame_stride = {self.frame_stride} would do nothing with sampling = 'tsn'; set it to 1")
        if self.crop_area is not None and (self.crop_scales != (1.0,) or self.crop_area[0] > self.crop_area[1]):
            raise ValueError(f"crop_area = {self.crop_area} needs low <= high, and crop_scales left at (1,)")
        return self


class MixConfig(Config):
    """Mixup and CutMix of the clips of a batch, first with last, as timm does it; zero alphas: no mixing (released: 0.8, 1)."""

    mixup: Annotated[float, Field(ge=0.0, description="alpha of the beta distribution")] = 0.0
    cutmix: Annotated[float, Field(ge=0.0, description="alpha of the beta distribution")] = 0.0
    prob: Annotated[float, Field(gt=0.0, le=1.0, description="of mixing a batch at all")] = 1.0
    switch_prob: Annotated[float, Field(ge=0.0, le=1.0, description="of CutMix where both are on")] = 0.5

    @model_validator(mode="after")
    def _has_effect(self) -> "MixConfig":
        if not self.is_on and self.prob != 1.0:
            raise ValueError(f"mix.prob = {self.prob:g} would do nothing: mixup and cutmix are 0")
        if not (self.mixup and self.cutmix) and self.switch_prob != 0.5:
            raise ValueError(f"mix.switch_prob = {self.switch_prob:g} would do nothing: it chooses between mixup and cutmix")
        return self

    @property
    def is_on(self) -> bool:
        """Whether anything is mixed."""
        return self.mixup > 0 or self.cutmix > 0


class EncoderConfig(Config):
    """The vision transformer over visible cubes; defaults are ViT-B."""

    width: Annotated[int, Field(ge=2, multiple_of=2)] = 768
    depth: Positive = 12
    num_heads: Positive = 12
    mlp_ratio: Annotated[float, Field(gt=0.0)] = 4.0
    positions: Annotated[
        Literal["sincos_1d", "sincos_3d", "learned"],
        Field(description="fixed over the flat cube index, as released; fixed, a third per axis; a free vector per cube"),
    ] = "sincos_1d"

    @model_validator(mode="after")
    def _heads(self) -> "EncoderConfig":
        if self.width % self.num_heads:
            raise ValueError(f"width = {self.width} is not divisible by num_heads = {self.num_heads}")
        return self


class DecoderConfig(EncoderConfig):
    """The light decoder over visible cubes and mask tokens (Table 1a: 4 blocks; width 384 for ViT-B)."""

    width: Annotated[int, Field(ge=2, multiple_of=2)] = 384
    depth: Positive = 4
    num_heads: Positive = 6


class MaskConfig(Config):
    """Which cubes are hidden from the encoder (Table 1b; figure on ratios).

    Units, of which floor(ratio x units) are hidden with `count` fixed, as released:

        tube              positions, the same in each slice (the paper)
        random            cubes, anywhere in the clip (Table 1b's "random", by the authors' account)
        random_per_slice  positions, drawn anew for each slice
        frame             slices; the ratio must be a multiple of 1/slices
        block             positions, in rectangles of 15 % laid until enough are hidden (BEiT's kind of mask, held for all slices)
        multi_block       positions, in 8 rectangles of 15 % and 2 of 70 % (V-JEPA), then topped up or thinned to the ratio

    With `count` bernoulli each unit is hidden with probability `ratio` (what the paper's text says of tubes); a draw that hides
    nothing or everything is repeated.
    """

    kind: Literal["tube", "random", "random_per_slice", "frame", "block", "multi_block"] = "tube"
    ratio: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.9
    count: Annotated[Literal["fixed", "bernoulli"], OmitWhen("fixed")] = "fixed"

    @model_validator(mode="after")
    def _bernoulli(self) -> "MaskConfig":
        if self.count == "bernoulli" and self.kind in ("block", "multi_block"):
            raise ValueError(f"count = 'bernoulli' draws units independently, which kind = {self.kind!r} does not have")
        return self

    def units(self, grid: CubeGrid) -> tuple[int, int]:
        """Return how many units are drawn from, and how many cubes one of them hides."""
        if self.kind == "random":
            return grid.num_cubes, 1
        if self.kind == "frame":
            return grid.num_slices, grid.num_positions
        return grid.num_positions, grid.num_slices

    def num_hidden(self, grid: CubeGrid) -> int:
        """Return M, the hidden cubes of a clip (bernoulli: about that many); ValueError where the ratio fits no mask."""
        units, cubes_per_unit = self.units(grid)
        exact = self.ratio * units
        hidden_units = int(exact + 1e-9)  # the tolerance keeps 0.29 x 100 at 29
        if self.kind == "frame" and self.count == "fixed" and abs(exact - hidden_units) > 1e-6:
            allowed = ", ".join(f"{k / units:g}" for k in range(1, units))
            raise ValueError(f"ratio = {self.ratio:g} is no multiple of 1/{units} slices; allowed for frame: {allowed or 'none'}")
        if not 0 < hidden_units < units:
            hides = f"hides {'everything' if hidden_units else 'nothing'} of {units} {self.kind} units"
            raise ValueError(f"ratio = {self.ratio:g} {hides}; allowed: {1 / units:g} <= ratio < 1")
        return hidden_units * cubes_per_unit


class DecoderMaskConfig(Config):
    """Which cubes the decoder is asked for (VideoMAE V2, dual masking): of them, those hidden from the encoder count.

    `running_cell` keeps ratio x 4 of each 2 x 2 cell, the pattern moving on from slice to slice; `random` keeps any cubes.
    """

    kind: Literal["none", "running_cell", "random"] = "none"
    kept: Annotated[float, Field(gt=0.0, lt=1.0, description="share of all cubes that the decoder predicts")] = 0.5

    def num_kept(self, grid: CubeGrid) -> int:
        """Return how many cubes the decoder predicts; ValueError where the share fits no pattern on `grid`."""
        if self.kind == "none":
            return grid.num_cubes
        if self.kind == "running_cell" and (self.kept * 4 % 1 or grid.side % 2):
            raise ValueError(
                f"decoder_mask.kept = {self.kept:g} on {grid.side} x {grid.side} positions: running cells of 2 x 2 need an "
                "even side and 0.25, 0.5 or 0.75"
            )
        kept = int(self.kept * grid.num_cubes + 1e-9)
        if not kept:
            raise ValueError(f"decoder_mask.kept = {self.kept:g} keeps none of {grid.num_cubes} cubes")
        return kept


class OptimConfig(Config):
    """AdamW with linear warm-up from zero, then cosine; lr = base_lr x batch_size / 256. SGD's momentum is beta1."""

    optimizer: Annotated[Literal["adamw", "sgd"], OmitWhen("adamw")] = "adamw"
    epochs: Positive = 800
    warmup_epochs: Annotated[float, Field(ge=0.0)] = 40.0
    batch_size: Annotated[int, Field(ge=1, description="clips per step over all devices together")] = 1024
    base_lr: Annotated[float, Field(gt=0.0, description="per 256 clips")] = 1.5e-4
    min_base_lr: Annotated[float, Field(ge=0.0, description="per 256 clips, at the end of the cosine")] = 1e-5
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.05
    beta1: Fraction = 0.9
    beta2: Fraction = 0.95
    grad_clip_norm: Annotated[float, Field(gt=0.0)] | None = None
    max_left_out: Annotated[
        int, OmitWhen(0), Field(ge=0, description="steps whose loss is no number: back to the last checkpoint, on without them")
    ] = 0

    @model_validator(mode="after")
    def _order(self) -> "OptimConfig":
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs = {self.warmup_epochs:g} must be less than epochs = {self.epochs}")
        if self.min_base_lr > self.base_lr:
            raise ValueError(f"min_base_lr = {self.min_base_lr:g} must not exceed base_lr = {self.base_lr:g}")
        if self.optimizer == "sgd" and self.beta2 != type(self).model_fields["beta2"].default:
            raise ValueError(f"beta2 = {self.beta2:g} would do nothing with optimizer = 'sgd'; leave it out")
        return self

    @property
    def lr(self) -> float:
        """Peak learning rate, by the linear scaling rule."""
        return self.base_lr * self.batch_size / 256

    @property
    def min_lr(self) -> float:
        """Final learning rate, by the linear scaling rule."""
        return self.min_base_lr * self.batch_size / 256


class FinetuneOptimConfig(OptimConfig):
    """The same, with layer-wise decay (released scripts: 0.75; SSv2 ViT-B 50 epochs, base lr 5e-4)."""

    epochs: Positive = 50
    warmup_epochs: Annotated[float, Field(ge=0.0)] = 5.0
    batch_size: Positive = 384
    base_lr: Annotated[float, Field(gt=0.0)] = 5e-4
    min_base_lr: Annotated[float, Field(ge=0.0)] = 1e-6
    beta2: Fraction = 0.999
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0, description="lr factor per layer from the head down")] = 0.75
