"""Contrastive pre-training: two clips of a video are to be recognised among those of other videos (MoCo v3, Tables 2 to 4)."""

import math

import torch
from torch import Tensor

from vmae.config import ContrastConfig, PretrainRun
from vmae.data.augment import to_float
from vmae.data.clips import TrainBatches
from vmae.data.frames import FrameSource
from vmae.data.source import chosen_of, frames_of, manifest_of
from vmae.errors import ConfigError
from vmae.model.contrast import MoCo, contrast, momentum_at
from vmae.train.checkpoint import save_weights
from vmae.train.distributed import World
from vmae.train.heldout import MASK_EPOCH, below_floor
from vmae.train.setup import INIT_STEP, autocast, seed_step
from vmae.train.training import Outcome, Place, Training

HELDOUT_BATCH = 64


def pretrain_contrast(run: PretrainRun, place: Place) -> Outcome:
    """Train to the end; leave weights in the run directory, of which a fine-tuning takes `encoder.*`.

    Raises Interrupted after saving if asked to stop, DivergedError at a loss that is not finite, ConfigError for micro-batches.
    """
    config, world = run.pretrain, place.world
    assert isinstance(config, ContrastConfig)
    if place.runtime.shard:
        raise ConfigError("runtime.shard = true: a contrastive model is two of which one follows the other, not sharded here")
    manifest = manifest_of(config.data, place.runtime)
    videos = chosen_of(manifest, "pretrain", config.subset, place.runtime)
    batches = _batches(run, config, videos.frames, config.optim.batch_size, world.rank, world.size)
    seed_step(config.seed, INIT_STEP, rank=0)
    model = MoCo(run).to(world.device)
    training = Training("contrast", model, config.optim, batches, place)
    if (place.runtime.micro_batch_size or training.clips_per_rank) < training.clips_per_rank:
        raise ConfigError(
            f"runtime.micro_batch_size = {place.runtime.micro_batch_size}: a contrastive step of {training.clips_per_rank} clips "
            f"cannot be taken in parts, for they are each other's negatives; leave it null"
        )
    own = torch.tensor(batches.places(world.rank), device=world.device)
    all_places = torch.tensor([p for rank in range(world.size) for p in batches.places(rank)], device=world.device)
    for batch in training.steps():
        model.follow(momentum_at(config.momentum, training.progress.step, training.total_steps))
        clips = to_float(batch.clips, world.device)

        def loss_of(part: slice, clips: Tensor = clips) -> Tensor:
            with autocast(config.precision, world.device):
                queries, keys = training.parallel(clips[part])
            losses = contrast(queries, world.gather_rows(keys), own, all_places, config.temperature)
            return 4 * config.temperature * losses.mean()  # two directions, each times 2 temperature, as published

        training.update(loss_of)

    metrics: dict[str, object] = {}
    if world.is_main:
        heldout = frames_of(manifest, config.heldout_split, place.runtime)
        metrics = judge(model, run, config, heldout, world) | {"num_videos": len(videos.rows), "list_sha256": videos.list_sha256}
        save_weights(place.run_dir.weights, model)
    return Outcome(metrics, training.compute(run.grid.num_cubes))


def _batches(
    run: PretrainRun, config: ContrastConfig, source: FrameSource, batch_size: int, rank: int = 0, num_ranks: int = 1
) -> TrainBatches:
    return TrainBatches(
        source=source,
        labels=None,
        clip=config.clip,
        grid=run.grid,
        reading=(run.grid.num_frames, config.clip.frame_stride),
        mask=None,
        decoder_mask=None,
        seed=config.seed,
        batch_size=batch_size,
        repeats=2,
        rank=rank,
        num_ranks=num_ranks,
    )


@torch.no_grad()
def judge(model: MoCo, run: PretrainRun, config: ContrastConfig, source: FrameSource, world: World) -> dict[str, object]:
    """Return what held-out videos say, in batches of 64 or as many as there are.

    `retrieval_top1` is the share of clips (percent) whose other clip is the nearest key, `retrieval_chance` what guessing gives.
    The trivial floor `floor_chance` is the loss of equal scores; `beats_floors`, `floor_gap` and `floor_gap_ci` compare the loss
    with it as a masked pre-training's do. `feature_std` is the mean standard deviation over clips of the values of a feature
    vector of length 1, times the root of how many they are: 1 for features spread evenly, 0 where all clips look alike.
    """
    model.eval()
    batches = _batches(run, config, source, min(HELDOUT_BATCH, len(source)))
    places = torch.arange(batches.clips_per_step, device=world.device)
    losses, hits, features = [], [], []
    for step in range(batches.steps_per_epoch):
        clips = to_float(batches[MASK_EPOCH * batches.steps_per_epoch + step].clips, world.device)
        with autocast(config.precision, world.device):
            queries, keys = model(clips)
            features.append(torch.nn.functional.normalize(model.features(clips).float(), dim=1))
        losses.append(contrast(queries, keys, places, places, config.temperature))
        scores = (queries @ keys.T).masked_fill((places[:, None] + places[None]) % 2 == 0, float("-inf"))
        hits.append(scores.argmax(dim=1) == places ^ 1)
    chance = math.log(batches.batch_size)
    gaps = torch.cat(losses).double().cpu().numpy() - chance
    spread = torch.cat(features)
    return {
        "loss_heldout": float(gaps.mean()) + chance,
        "floor_chance": chance,
        "best_floor": "chance",
        **below_floor(gaps),
        "num_heldout": len(gaps),
        "retrieval_top1": 100 * float(torch.cat(hits).float().mean()),
        "retrieval_chance": 100 / batches.batch_size,
        "feature_std": float(spread.std(dim=0).mean()) * spread.shape[1] ** 0.5,
    }
