"""What a run costs before it has run: FLOPs counted from the config, seconds from measured speed.

FLOPs are those of matrix products (a multiply-add is two), forward and backward (three times the forward), as in the usual
model-FLOPs accounting; attention included. Seconds come from finished runs of the same stage and shape in this store where there
are any, else from the reference machine, and the plan says which.
"""

import statistics
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from vmae.config import ContrastConfig, EvaluateRun, FinetuneConfig, FinetuneRun, PretrainConfig, PretrainRun, Run
from vmae.results import Result
from vmae.sections import EncoderConfig


@dataclass(frozen=True)
class Reference:
    """GFLOP/s of one rank by kind of run, where a store has no finished run to measure, and whose speed that is."""

    name: str
    gflops: Mapping[str, float]


# One thread at the quick preset, two jobs at a time on a 2-core x86_64 with AVX-512: medians over the demo's runs for training
# (LOG.md, 2026-11-24); an evaluation is taken to be as fast as a fine-tuning.
REFERENCE = Reference("reference machine", {"pretrain": 29.0, "contrast": 52.0, "finetune": 52.0, "evaluate": 50.0})
# One V100 of the paper's Table 3: 64 took 19.5 h for 800 epochs of masked pre-training on SSv2, which is 6,061 GFLOP/s by our
# count, and 61.7 h for 300 of MoCo v3, 10,226; fine-tuning and evaluation, on all cubes too, are taken to be as fast as that.
V100 = Reference(
    "V100 of the paper's Table 3", {"pretrain": 6061.0, "contrast": 10226.0, "finetune": 10226.0, "evaluate": 10226.0}
)
NOTHING = Reference("nothing", {})
START_S = 6.0  # of a job: interpreter, torch, data


def block_flops(config: EncoderConfig, num_cubes: int) -> float:
    """Return the forward FLOPs of all blocks on one clip of `num_cubes`."""
    d, hidden = config.width, config.width * config.mlp_ratio
    linear = 2 * num_cubes * (4 * d * d + 2 * d * hidden)
    attention = 4 * num_cubes**2 * d
    return config.depth * (linear + attention)


def flops_per_clip(run: Run) -> float:
    """Return the FLOPs of one clip: of a training step's share for training stages, of one view for evaluation."""
    if isinstance(run, PretrainRun) and isinstance(run.pretrain, PretrainConfig):
        return 3 * _masked_forward(run, run.pretrain)
    model = run.parent if isinstance(run, EvaluateRun) else run
    embed = 2 * model.grid.num_cubes * model.grid.cube_values * model.encoder.width
    forward = embed + block_flops(model.encoder, model.grid.num_cubes)
    passes = {"pretrain": 4, "finetune": 3, "evaluate": 1}[run.stage]  # contrastive: the key encoder goes forward too
    return passes * forward


def _masked_forward(run: PretrainRun, section: PretrainConfig) -> float:
    grid, decoder = run.grid, section.decoder
    hidden = section.mask.num_hidden(grid)
    visible = grid.num_cubes - hidden
    asked = hidden if section.decoder_mask.kind == "none" else section.decoder_mask.num_kept(grid)
    predicted = grid.num_cubes if section.loss_region == "all" else asked
    embed = 2 * visible * grid.cube_values * run.encoder.width
    bridge = 2 * visible * run.encoder.width * decoder.width
    head = 2 * predicted * decoder.width * section.target_grid(grid).cube_values
    return embed + bridge + head + block_flops(run.encoder, visible) + block_flops(decoder, visible + asked)


def num_clips(run: Run) -> int:
    """Return the clips a run goes through: two of each video and step where they are contrasted."""
    if isinstance(run, EvaluateRun):
        return run.parent.finetune.data.num_videos(run.evaluate.split) * run.evaluate.num_clips * run.evaluate.num_crops
    if isinstance(run, FinetuneRun):
        return _steps(run.finetune) * run.finetune.optim.batch_size * run.finetune.repeats
    clips_per_video = 2 if isinstance(run.pretrain, ContrastConfig) else 1  # `repeats` of a masked one are in batch_size
    return _steps(run.pretrain) * run.pretrain.optim.batch_size * clips_per_video


def num_steps(run: Run) -> int | None:
    """Return the optimiser steps of a run, None for an evaluation."""
    if isinstance(run, EvaluateRun):
        return None
    return _steps(run.pretrain if isinstance(run, PretrainRun) else run.finetune)


def _steps(section: PretrainConfig | ContrastConfig | FinetuneConfig) -> int:
    return section.optim.epochs * (section.num_videos // section.optim.batch_size)


def kind_of(run: Run) -> str:
    """Return what a run's speed depends on: its stage, contrastive pre-training apart."""
    return "contrast" if isinstance(run, PretrainRun) and isinstance(run.pretrain, ContrastConfig) else run.stage


Shape = tuple[str, int, int, int]


def shape_of(run: Run) -> Shape:
    """Return what speed in FLOPs goes with: kind, the encoder's width and depth, cubes of a clip."""
    model = run.parent if isinstance(run, EvaluateRun) else run
    return kind_of(run), model.encoder.width, model.encoder.depth, model.grid.num_cubes


@dataclass(frozen=True)
class CostModel:
    """Seconds from GFLOP/s of one rank: as `measured` on finished runs of the same shape, else of the `reference`."""

    reference: Reference = REFERENCE
    measured: Mapping[Shape, float] = field(default_factory=dict)

    def seconds(self, run: Run) -> float | None:
        """Return the estimated seconds of one run on one rank, without its job's start; None where no speed is known."""
        gflops = self.measured.get(shape_of(run)) or self.reference.gflops.get(kind_of(run))
        return None if gflops is None else num_clips(run) * flops_per_clip(run) / (gflops * 1e9)

    def source(self, run: Run) -> str:
        """Return whose speed an estimate stands on."""
        if shape_of(run) in self.measured:
            return "finished runs here"
        return self.reference.name if kind_of(run) in self.reference.gflops else "no finished run yet"


def fit(finished: Iterable[tuple[Run, Result]], reference: Reference = REFERENCE, on_gpu: Collection[str] = ()) -> CostModel:
    """Return the cost model of a store's finished runs: the median speed of each shape, `reference` where there is none.

    Args:
        on_gpu: stages of which those count that ran on a GPU; of the others those that did not.
    """
    speeds: dict[Shape, list[float]] = {}
    for run, result in finished:
        spent_s = result.device_s
        if result.status == "done" and spent_s and ("gpu" in result.provenance) == (run.stage in on_gpu):
            speeds.setdefault(shape_of(run), []).append(num_clips(run) * flops_per_clip(run) / spent_s / 1e9)
    return CostModel(reference, {shape: statistics.median(values) for shape, values in speeds.items()})
