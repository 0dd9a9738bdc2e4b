"""Every knob of a run, with its unit and range.

A run's config is self-contained: it holds its sections, the geometry and, through `parent`, every ancestor. Defaults are the
paper's ablation setting (Tong et al. 2022, section 4 and appendix), and the released scripts' where the paper is silent.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from vmae.data.embedded import EMBEDDED_VERSION, LABEL_SETS, SIZES
from vmae.errors import near
from vmae.grid import Config, CubeGrid
from vmae.identity import NotIdentity, Parent, Seed

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
RandomSeed = Annotated[int, Field(ge=0, lt=2**32), Seed()]
Precision = Literal["fp32", "bf16"]


class EmbeddedSet(Config):
    """The generated moving-digits videos; `labels` chooses which question is asked about the same clips."""

    source: Literal["embedded"] = "embedded"
    size: Literal["tiny", "quick", "full"] = "quick"
    seed: Annotated[int, Field(ge=0, lt=2**32, description="of the generator; not a replicate seed")] = 0
    version: Annotated[int, Field(ge=EMBEDDED_VERSION, le=EMBEDDED_VERSION)] = EMBEDDED_VERSION
    labels: Literal["motion", "appearance"] | None = None

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
        return "-".join(["digits", self.size, *([self.labels] if self.labels else [])])


class ListedSet(Config):
    """Any videos named by a manifest (csv: path,label,split). What is listed is identity; where it lies is not."""

    source: Literal["list"] = "list"
    name: Annotated[str, NotIdentity(), Field(min_length=1, description="how tables call this data set")]
    list_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    num_classes: Positive | None = None
    manifest: Annotated[str, NotIdentity()]
    counts: Annotated[dict[str, int], NotIdentity(), Field(description="videos per split; follows from the list")]

    def num_videos(self, split: str) -> int:
        """Return the videos of `split`; ValueError for an unknown one."""
        return _count(self.counts, split, f"manifest {self.manifest}")


def _count(counts: Mapping[str, int], split: str, where: str) -> int:
    if split not in counts:
        raise ValueError(f"{where} has no split {split!r}{near(split, counts)}")
    return counts[split]


def _check_batch(stage: str, batch_size: int, num_videos: int) -> None:
    if batch_size > num_videos:
        raise ValueError(
            f"{stage}.optim.batch_size = {batch_size} is larger than the {num_videos} videos of its split: "
            f"an epoch would have no step; allowed: 1 to {num_videos}"
        )


VideoSet = Annotated[EmbeddedSet | ListedSet, Field(discriminator="source")]


class ClipConfig(Config):
    """How a clip is taken from a video: exact constant stride, random start, random crop."""

    frame_stride: Annotated[int, Field(ge=1, description="frames; 2 on SSv2, 4 on K400")] = 4
    crop_scales: Annotated[
        tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...],
        Field(min_length=1, description="short-side shares; released pre-training draws from (1, .875, .75, .66)"),
    ] = (1.0,)
    hflip: Annotated[bool, Field(description="flip half of the clips; wrong where left and right are labels")] = False
    roll: Annotated[bool, Field(description="shift cyclically in space; right only on a torus, as the embedded set is")] = False


class EncoderConfig(Config):
    """The vision transformer over visible cubes; defaults are ViT-B."""

    width: Annotated[int, Field(ge=2, multiple_of=2)] = 768
    depth: Positive = 12
    num_heads: Positive = 12
    mlp_ratio: Annotated[float, Field(gt=0.0)] = 4.0
    positions: Annotated[
        Literal["sincos_1d", "sincos_3d"], Field(description="over the flat cube index, as released; or a third per axis")
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

    The count is fixed, as released: tube hides the same floor(ratio x positions) positions in each slice, random hides
    floor(ratio x cubes) anywhere, frame hides whole slices, so its ratio must be a multiple of 1/slices.
    """

    kind: Literal["tube", "random", "frame"] = "tube"
    ratio: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.9

    def num_hidden(self, grid: CubeGrid) -> int:
        """Return M, the hidden cubes of every clip; ValueError where the ratio fits no mask on `grid`."""
        units, cubes_per_unit = {
            "tube": (grid.num_positions, grid.num_slices),
            "random": (grid.num_cubes, 1),
            "frame": (grid.num_slices, grid.num_positions),
        }[self.kind]
        exact = self.ratio * units
        hidden_units = int(exact + 1e-9)  # the tolerance keeps 0.29 x 100 at 29
        if self.kind == "frame" and abs(exact - hidden_units) > 1e-6:
            allowed = ", ".join(f"{k / units:g}" for k in range(1, units))
            raise ValueError(f"ratio = {self.ratio:g} is no multiple of 1/{units} slices; allowed for frame: {allowed}")
        if not 0 < hidden_units < units:
            what = "nothing" if hidden_units == 0 else "everything"
            raise ValueError(
                f"ratio = {self.ratio:g} hides {what} of {units} {self.kind} units; allowed: {1 / units:g} <= ratio < {1:g}"
            )
        return hidden_units * cubes_per_unit


class OptimConfig(Config):
    """AdamW with linear warm-up from zero, then cosine; lr = base_lr x batch_size / 256."""

    epochs: Positive = 800
    warmup_epochs: Annotated[float, Field(ge=0.0)] = 40.0
    batch_size: Annotated[int, Field(ge=1, description="clips per step over all devices together")] = 1024
    base_lr: Annotated[float, Field(gt=0.0, description="per 256 clips")] = 1.5e-4
    min_base_lr: Annotated[float, Field(ge=0.0, description="per 256 clips, at the end of the cosine")] = 1e-5
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.05
    beta1: Fraction = 0.9
    beta2: Fraction = 0.95
    grad_clip_norm: Annotated[float, Field(gt=0.0)] | None = None

    @model_validator(mode="after")
    def _order(self) -> "OptimConfig":
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs = {self.warmup_epochs:g} must be less than epochs = {self.epochs}")
        if self.min_base_lr > self.base_lr:
            raise ValueError(f"min_base_lr = {self.min_base_lr:g} must not exceed base_lr = {self.base_lr:g}")
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


class PretrainConfig(Config):
    """Masked reconstruction of the hidden cubes."""

    seed: RandomSeed = 0
    data: VideoSet
    clip: ClipConfig = ClipConfig()
    mask: MaskConfig = MaskConfig()
    decoder: DecoderConfig = DecoderConfig()
    target: Annotated[
        Literal["normalised", "raw"], Field(description="pixels at mean 0, variance 1 per cube and channel; in [0, 1]")
    ] = "normalised"
    loss: Annotated[Literal["mse", "l1", "smooth_l1"], Field(description="Table 1f")] = "mse"
    optim: OptimConfig = OptimConfig()
    precision: Precision = "bf16"
    heldout_split: Annotated[str, Field(description="clips that judge the pre-training; never trained on")] = "holdout"


class FinetuneConfig(Config):
    """Supervised training of encoder, mean pooling, LayerNorm and a linear head."""

    seed: RandomSeed = 0
    data: VideoSet
    clip: ClipConfig = ClipConfig()
    optim: FinetuneOptimConfig = FinetuneOptimConfig()
    label_smoothing: Fraction = 0.1
    drop_path_rate: Fraction = 0.1
    init: Annotated[
        Literal["trunc_normal", "xavier"],
        Field(description="of blocks without a parent: std 0.02, as released; by width"),
    ] = "trunc_normal"
    precision: Precision = "bf16"


class EvaluateConfig(Config):
    """The reported number: softmax averaged over evenly spaced clips of each video, every video counted once."""

    split: str = "test"
    num_clips: Annotated[int, Field(ge=1, description="views in time")] = 2
    precision: Precision = "fp32"


class PretrainRun(Config):
    """One pre-training."""

    algo: ClassVar[int] = 1
    stage: Literal["pretrain"] = "pretrain"
    grid: CubeGrid
    encoder: EncoderConfig
    pretrain: PretrainConfig

    @model_validator(mode="after")
    def _fits(self) -> "PretrainRun":
        self.pretrain.mask.num_hidden(self.grid)
        data = self.pretrain.data
        if isinstance(data, EmbeddedSet) and data.labels:
            raise ValueError(f"pretrain.data.labels = {data.labels!r}: pre-training reads no labels; leave it null")
        data.num_videos(self.pretrain.heldout_split)
        _check_batch("pretrain", self.pretrain.optim.batch_size, data.num_videos("pretrain"))
        return self


class FinetuneRun(Config):
    """One fine-tuning, from a pre-training or (parent = null) from scratch."""

    algo: ClassVar[int] = 1
    stage: Literal["finetune"] = "finetune"
    grid: CubeGrid
    encoder: EncoderConfig
    finetune: FinetuneConfig
    parent: Annotated[PretrainRun | None, Parent()] = None

    @model_validator(mode="after")
    def _fits(self) -> "FinetuneRun":
        data = self.finetune.data
        if data.num_classes is None:
            key = "labels" if isinstance(data, EmbeddedSet) else "num_classes"
            raise ValueError(f"finetune.data.{key} is null: fine-tuning needs labels; allowed: {', '.join(LABEL_SETS)}")
        _check_batch("finetune", self.finetune.optim.batch_size, data.num_videos("train"))
        return self


class EvaluateRun(Config):
    """One evaluation of a fine-tuned model."""

    algo: ClassVar[int] = 1
    stage: Literal["evaluate"] = "evaluate"
    evaluate: EvaluateConfig
    parent: Annotated[FinetuneRun, Parent()]

    @property
    def grid(self) -> CubeGrid:
        """The geometry of the model that is evaluated."""
        return self.parent.grid

    @model_validator(mode="after")
    def _fits(self) -> "EvaluateRun":
        self.parent.finetune.data.num_videos(self.evaluate.split)
        return self


Run = PretrainRun | FinetuneRun | EvaluateRun
STAGES = ("pretrain", "finetune", "evaluate")
