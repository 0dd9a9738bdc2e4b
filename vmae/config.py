"""Every knob of a run, with its unit and range.

A run's config is self-contained: it holds its sections, the geometry and, through `parent`, every ancestor. Defaults are the
paper's ablation setting (Tong et al. 2022, section 4 and appendix), and the released scripts' where the paper is silent.
"""

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Discriminator, Field, Tag, model_validator

from vmae.data.embedded import LABEL_SETS
from vmae.grid import Config, CubeGrid
from vmae.identity import OmitWhen, Parent
from vmae.imported import ImportedWeights
from vmae.sections import (
    ClipConfig,
    DecoderConfig,
    DecoderMaskConfig,
    EmbeddedSet,
    EncoderConfig,
    FinetuneClipConfig,
    FinetuneOptimConfig,
    Fraction,
    MaskConfig,
    MixConfig,
    OptimConfig,
    Precision,
    RandomSeed,
    SubsetConfig,
    VideoSet,
)


def _check_videos(stage: str, optim: OptimConfig, num_videos: int, num_there: int) -> None:
    if num_videos > num_there:
        raise ValueError(f"{stage}.subset.num_videos = {num_videos}; allowed: 1 to {num_there}")
    if optim.batch_size > num_videos:
        raise ValueError(
            f"{stage}.optim.batch_size = {optim.batch_size} is larger than the {num_videos} videos of its split: "
            f"an epoch would have no step; allowed: 1 to {num_videos}"
        )
    steps_per_epoch = num_videos // optim.batch_size
    num_steps = optim.epochs * steps_per_epoch
    if round(optim.warmup_epochs * steps_per_epoch) >= num_steps:
        raise ValueError(
            f"{stage}.optim.warmup_epochs = {optim.warmup_epochs:g} rounds to all {num_steps} steps: none would be left to train "
            f"at the full rate; allowed: at most {(num_steps - 1) / steps_per_epoch:g}"
        )


class _Pretraining(Config):
    """What pre-trainings of any method share."""

    seed: RandomSeed = 0
    data: VideoSet
    subset: Annotated[SubsetConfig, OmitWhen(SubsetConfig())] = SubsetConfig()
    optim: OptimConfig = OptimConfig()
    precision: Precision = "bf16"
    heldout_split: Annotated[str, Field(description="clips that judge the pre-training; never trained on")] = "holdout"

    @property
    def num_videos(self) -> int:
        """Videos that are trained on."""
        return self.subset.num_videos or self.data.num_videos("pretrain")


class PretrainConfig(_Pretraining):
    """Masked reconstruction: what is hidden, what is asked for, and how a miss is priced."""

    algo: ClassVar[int] = 1
    method: Annotated[Literal["masked"], OmitWhen("masked")] = "masked"
    clip: ClipConfig = ClipConfig()
    repeats: Annotated[
        int, OmitWhen(1), Field(ge=1, description="clips of each video of a step, in batch_size; mae_st: 4; epochs stay as long")
    ] = 1
    repeats_share_frames: Annotated[
        bool, OmitWhen(False), Field(description="the clips of a video are the same frames; crop and mask differ")
    ] = False
    mask: MaskConfig = MaskConfig()
    decoder: DecoderConfig = DecoderConfig()
    decoder_mask: Annotated[DecoderMaskConfig, OmitWhen(DecoderMaskConfig())] = DecoderMaskConfig()
    target: Annotated[
        Literal["normalised", "normalised_pooled", "raw"],
        Field(description="pixels at mean 0 and variance 1 per cube and channel, as released; per cube, as mae_st; in [0, 1]"),
    ] = "normalised"
    target_frames: Annotated[
        Literal["clip", "double_rate", "centre"],
        OmitWhen("clip"),
        Field(description="Table 1c: T x tau as the input; 2T x tau/2; the centre frame"),
    ] = "clip"
    loss: Annotated[Literal["mse", "l1", "smooth_l1"], Field(description="Table 1f")] = "mse"
    loss_beta: Annotated[float, OmitWhen(1.0), Field(gt=0.0, description="of smooth_l1: quadratic below, linear above")] = 1.0
    loss_region: Annotated[
        Literal["hidden", "all"], OmitWhen("hidden"), Field(description="cubes whose prediction counts; the paper: hidden")
    ] = "hidden"

    @model_validator(mode="after")
    def _has_effect(self) -> "PretrainConfig":
        if self.loss_beta != 1.0 and self.loss != "smooth_l1":
            raise ValueError(f"loss_beta = {self.loss_beta:g} would do nothing: loss is {self.loss!r}, not 'smooth_l1'")
        if self.decoder_mask.kind == "none" and self.decoder_mask != DecoderMaskConfig():
            raise ValueError(f"decoder_mask.kept = {self.decoder_mask.kept:g} would do nothing: decoder_mask.kind is 'none'")
        if self.optim.batch_size % self.repeats:
            raise ValueError(f"optim.batch_size = {self.optim.batch_size} clips are no multiple of repeats = {self.repeats}")
        if self.repeats_share_frames and self.repeats == 1:
            raise ValueError("repeats_share_frames = true would do nothing: repeats is 1")
        if self.target_frames == "double_rate" and self.clip.frame_stride % 2:
            raise ValueError(f"target_frames = 'double_rate' needs an even clip.frame_stride; it is {self.clip.frame_stride}")
        plain = (self.mask.count, self.decoder_mask.kind, self.loss_region, self.target_frames)
        if self.loss_region == "all" and plain != ("fixed", "none", "all", "clip"):
            raise ValueError("loss_region = 'all' goes only with mask.count fixed, decoder_mask.kind none and target_frames clip")
        if self.mask.count == "bernoulli" and self.decoder_mask.kind != "none":
            raise ValueError("mask.count = 'bernoulli' goes only with decoder_mask.kind = 'none'")
        return self

    def reading(self, grid: CubeGrid) -> tuple[int, int]:
        """Return frames and stride of the clip that is read from a video: the input's, or twice as dense for its target."""
        dense = self.target_frames == "double_rate"
        return (2 * grid.num_frames, self.clip.frame_stride // 2) if dense else (grid.num_frames, self.clip.frame_stride)

    def target_grid(self, grid: CubeGrid) -> CubeGrid:
        """Return how the target is cut: into as many cubes as the input, of more frames, or of one frame."""
        t, s = grid.tubelet_frames, grid.num_slices
        frames = {"clip": (s * t, t), "double_rate": (2 * s * t, 2 * t), "centre": (s, 1)}[self.target_frames]
        return CubeGrid(num_frames=frames[0], size_px=grid.size_px, tubelet_frames=frames[1], patch_px=grid.patch_px)


class ContrastConfig(_Pretraining):
    """MoCo v3 (Chen, Xie and He 2021, arXiv:2104.02057) on clips: two clips of one video belong together, others do not."""

    algo: ClassVar[int] = 2  # 1: no BatchNorm at the predictor's end, statistics over both views together, another initialisation
    method: Literal["moco_v3"] = "moco_v3"
    clip: Annotated[FinetuneClipConfig, Field(description="how each clip is drawn and altered")] = FinetuneClipConfig()
    temperature: Annotated[float, Field(gt=0.0, description="of the softmax over cosines")] = 0.2
    momentum: Annotated[float, Field(ge=0.0, le=1.0, description="of the key encoder; a cosine leads from it to 1")] = 0.99
    head_width: Annotated[int, Field(ge=1, description="hidden values of projector and predictor")] = 4096
    embedding_width: Annotated[int, Field(ge=2, description="values that are compared")] = 256
    frozen_embedding: Annotated[bool, Field(description="cubes are embedded at random, which steadies ViTs (section 4.2)")] = True


def _method(value: object) -> str:
    method = value.get("method", "masked") if isinstance(value, dict) else getattr(value, "method", "masked")
    return method if method in METHODS else "masked"


METHODS = ("masked", "moco_v3")
PretrainSection = Annotated[
    Annotated[PretrainConfig, Tag("masked")] | Annotated[ContrastConfig, Tag("moco_v3")], Discriminator(_method)
]


class FinetuneConfig(Config):
    """Supervised training of encoder, mean pooling, LayerNorm and a linear head; or of a probe on the frozen encoder."""

    probe: Annotated[
        Literal["none", "linear", "attentive"],
        OmitWhen("none"),
        Field(description="train all; a linear head on mean features; cross-attention of one learned query, and a linear head"),
    ] = "none"
    seed: RandomSeed = 0
    data: VideoSet
    subset: Annotated[
        SubsetConfig, OmitWhen(SubsetConfig()), Field(description="fewer labelled videos: how few labels are enough")
    ] = SubsetConfig()
    clip: FinetuneClipConfig = FinetuneClipConfig()
    repeats: Annotated[
        int, OmitWhen(1), Field(ge=1, description="clips per video and step, own frames each, on top of batch_size; released: 2")
    ] = 1
    mix: Annotated[MixConfig, OmitWhen(MixConfig())] = MixConfig()
    optim: FinetuneOptimConfig = FinetuneOptimConfig()
    label_smoothing: Fraction = 0.1
    drop_path_rate: Fraction = 0.1
    head_dropout: Annotated[Fraction, OmitWhen(0.0), Field(description="before the head")] = 0.0
    ema_decay: Annotated[
        Fraction | None, OmitWhen(None), Field(description="of an average of the weights, which is then the result")
    ] = None
    init: Annotated[
        Literal["trunc_normal", "xavier"],
        Field(description="of blocks without a parent: std 0.02, as released; by width"),
    ] = "trunc_normal"
    precision: Precision = "bf16"

    @model_validator(mode="after")
    def _probe(self) -> "FinetuneConfig":
        if self.probe != "none" and (self.optim.layer_decay != 1.0 or self.drop_path_rate != 0.0):
            raise ValueError(
                f"optim.layer_decay = {self.optim.layer_decay:g} and drop_path_rate = {self.drop_path_rate:g} would do nothing "
                f"with probe = {self.probe!r}: the encoder is frozen; set them to 1 and 0"
            )
        return self

    @property
    def num_videos(self) -> int:
        """Labelled videos that are trained on."""
        return self.subset.num_videos or self.data.num_videos("train")


class EvaluateConfig(Config):
    """The reported number: softmax averaged over clips x crops of each video, every video counted once."""

    split: str = "test"
    num_clips: Annotated[int, Field(ge=1, description="views in time")] = 2
    num_crops: Annotated[
        Literal[1, 3], OmitWhen(1), Field(description="views in space: the centre, or three along the long side")
    ] = 1
    knn: Annotated[
        int | None,
        OmitWhen(None),
        Field(ge=1, description="classify by this many nearest training videos in the encoder's mean features, not by the head"),
    ] = None
    precision: Literal["fp32", "bf16"] = "fp32"


class PretrainRun(Config):
    """One pre-training."""

    stage: Literal["pretrain"] = "pretrain"
    grid: CubeGrid
    encoder: EncoderConfig
    pretrain: PretrainSection

    @property
    def algo(self) -> int:
        """The version of the method's mathematics."""
        return self.pretrain.algo

    @property
    def masked(self) -> PretrainConfig:
        """The section of a masked pre-training."""
        assert isinstance(self.pretrain, PretrainConfig)
        return self.pretrain

    @model_validator(mode="after")
    def _fits(self) -> "PretrainRun":
        if isinstance(self.pretrain, PretrainConfig):
            self.pretrain.mask.num_hidden(self.grid)
            self.pretrain.decoder_mask.num_kept(self.grid)
            if self.grid.is_image and self.pretrain.target_frames != "clip":
                raise ValueError(
                    f"pretrain.target_frames = {self.pretrain.target_frames!r} needs clips; this one is a single frame"
                )
        data = self.pretrain.data
        if isinstance(data, EmbeddedSet) and data.labels:
            raise ValueError(f"pretrain.data.labels = {data.labels!r}: pre-training reads no labels; leave it null")
        data.num_videos(self.pretrain.heldout_split)
        _check_videos("pretrain", self.pretrain.optim, self.pretrain.num_videos, data.num_videos("pretrain"))
        return self


class FinetuneRun(Config):
    """One fine-tuning, from a pre-training, from imported weights, or (both null) from scratch."""

    algo: ClassVar[int] = 1
    stage: Literal["finetune"] = "finetune"
    grid: CubeGrid
    encoder: EncoderConfig
    finetune: FinetuneConfig
    parent: Annotated[PretrainRun | None, Parent()] = None
    weights: Annotated[ImportedWeights | None, OmitWhen(None)] = None

    @model_validator(mode="after")
    def _fits(self) -> "FinetuneRun":
        if self.parent is not None and self.weights is not None:
            raise ValueError("a fine-tuning starts from a pre-training or from imported weights, not from both; set one to null")
        if self.parent is not None:
            self.parent.grid.check_start_of(self.grid)
            if self.encoder.positions == "learned":
                self.parent.grid.check_places_of(self.grid)
        data = self.finetune.data
        if data.num_classes is None:
            own = ("num_classes", "the number of the list's classes")
            key, allowed = ("labels", ", ".join(LABEL_SETS)) if isinstance(data, EmbeddedSet) else own
            raise ValueError(f"finetune.data.{key} is null: fine-tuning needs labels; allowed: {allowed}")
        _check_videos("finetune", self.finetune.optim, self.finetune.num_videos, data.num_videos("train"))
        if self.finetune.mix.is_on and self.finetune.optim.batch_size * self.finetune.repeats % 2:
            raise ValueError(f"finetune.mix pairs clips: batch_size x repeats = {self.finetune.optim.batch_size} must be even")
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
        bank = self.parent.finetune.num_videos
        if self.evaluate.knn is not None and self.evaluate.split == "train":
            raise ValueError(
                "evaluate.split = 'train' with evaluate.knn: neighbours are searched among these videos, and each would find "
                "itself; allowed: another split"
            )
        if self.evaluate.knn is not None and self.evaluate.knn > bank:
            raise ValueError(f"evaluate.knn = {self.evaluate.knn} is more than the {bank} training videos")
        return self


Run = PretrainRun | FinetuneRun | EvaluateRun
Stage = Literal["pretrain", "finetune", "evaluate"]
STAGES: tuple[Stage, ...] = get_args(Stage)
