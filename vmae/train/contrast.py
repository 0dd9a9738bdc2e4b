"""Contrastive pre-training: two clips of a video are to be recognised among those of other videos (MoCo v3, Tables 2 to 4)."""

import math
from collections import deque
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from vmae.config import ContrastConfig, PretrainRun
from vmae.data.augment import to_float
from vmae.data.clips import TrainBatches
from vmae.data.frames import FrameSource
from vmae.data.source import chosen_of, manifest_of
from vmae.errors import ConfigError, DataError
from vmae.model.contrast import MoCo, contrast, momentum_at, of_other_view, symmetric_loss, views_at
from vmae.train.checkpoint import save_weights
from vmae.train.distributed import World
from vmae.train.heldout import MASK_EPOCH, below_floor, none_readable, open_heldout
from vmae.train.setup import autocast, seed_init
from vmae.train.training import Outcome, Place, Training

HELDOUT_BATCH = 64


def pretrain_contrast(run: PretrainRun, place: Place) -> Outcome:
    """Train to the end; leave weights in the run directory, of which a fine-tuning takes `encoder.*`.

    Raises Interrupted after saving if asked to stop, DivergedError at a loss that is not finite, ConfigError for micro-batches,
    DataError before training where no held-out video can be read.
    """
    config, world = run.pretrain, place.world
    assert isinstance(config, ContrastConfig)
    if place.runtime.shard:
        raise ConfigError("runtime.shard = true: a contrastive model is two of which one follows the other, not sharded here")
    manifest = manifest_of(config.data, place.runtime)
    videos = chosen_of(manifest, "pretrain", config.subset, place.runtime)
    judging = open_heldout(manifest, config, run.grid, place.runtime)
    batches = _batches(run, config, videos.frames, config.optim.batch_size, world.rank, world.size)
    seed_init(config.seed)
    model = MoCo(run).to(world.device)
    training = Training("contrast", model, config.optim, batches, place, can_split=False)
    if (place.runtime.micro_batch_size or training.clips_per_rank) < training.clips_per_rank:
        raise ConfigError(
            f"runtime.micro_batch_size = {place.runtime.micro_batch_size}: a contrastive step of {training.clips_per_rank} clips "
            f"cannot be taken in parts, for they are each other's negatives; leave it null"
        )
    own = torch.tensor(batches.places(world.rank), device=world.device)
    all_places = torch.tensor([p for rank in range(world.size) for p in batches.places(rank)], device=world.device)
    views = views_at(own)

    def loss_of(clips: Tensor) -> Tensor:
        with autocast(config.precision, world.device):
            queries, keys = training.parallel(to_float(clips, world.device), views)
        return symmetric_loss(queries, world.gather_rows(keys), own, all_places, config.temperature)

    for batch in training.steps():
        model.follow(momentum_at(config.momentum, training.progress.step, training.total_steps))
        training.update(loss_of, batch.clips)

    metrics: dict[str, object] = {}
    spent = training.compute(run.grid.num_cubes)  # before judging, whose memory is another
    if world.is_main:
        save_weights(place.run_dir.weights, model)  # before judging, whatever comes of that
        metrics = judge(model, run, config, judging, world) | {"num_videos": len(videos.rows), "list_sha256": videos.list_sha256}
    return Outcome(metrics, spent)


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


def _pairs(run: PretrainRun, config: ContrastConfig, source: FrameSource) -> Iterator[Tensor]:
    """Yield two clips uint8 [2, C, T, H, W] of each video that can be read, in an order drawn by the seed; DataError if none."""
    one_by_one = _batches(run, config, source, batch_size=1)
    first, num_read, reason = MASK_EPOCH * len(source), 0, None  # of a pass that no training reaches
    for step in range(first, first + len(source)):
        try:
            batch = one_by_one[step]
        except DataError as error:  # neither it nor what would replace it
            reason = reason or str(error)
            continue
        if not batch.num_replaced:  # a replacement would be in twice, and its own negative
            num_read += 1
            yield batch.clips
    if not num_read:
        raise none_readable(config.heldout_split, len(source), reason)


def full_batches(pairs: Iterable[Tensor], size: int) -> Iterator[tuple[Tensor, int]]:
    """Yield `size` pairs of clips at a time, clips [2 size, ...], and how many of the last ones are new.

    Those that are left in the end come after some that were there already: a batch of fewer would be another, easier task.
    """
    latest: deque[Tensor] = deque(maxlen=size)
    num_new = 0
    for pair in pairs:
        latest.append(pair)
        num_new += 2
        if num_new == 2 * size:
            yield torch.cat(list(latest)), num_new
            num_new = 0
    if num_new:
        yield torch.cat(list(latest)), num_new


@torch.no_grad()
def judge(model: MoCo, run: PretrainRun, config: ContrastConfig, source: FrameSource, world: World) -> dict[str, object]:
    """Return what held-out videos say, each once, in batches of 64 or as many as there are; DataError if none can be read.

    `retrieval_top1` is the share of clips (percent) whose other clip is the nearest key, `retrieval_chance` what guessing gives.
    The trivial floor `floor_chance` is the loss of equal scores; `beats_floors`, `floor_gap` and `floor_gap_ci` compare the loss
    with it as a masked pre-training's do, a video's loss being the mean of its two clips', which are not independent.
    `feature_std` is the mean standard deviation over clips of the values of a feature vector of length 1, times the root of how
    many they are: 1 for features spread evenly, 0 where all clips look alike.
    """
    model.eval()
    losses, hits, features, batch_size = [], [], [], 0
    for pixels, num_new in full_batches(_pairs(run, config, source), HELDOUT_BATCH):
        clips, places = to_float(pixels, world.device), torch.arange(len(pixels), device=world.device)
        with autocast(config.precision, world.device):
            queries, keys = model(clips)
            features.append(torch.nn.functional.normalize(model.features(clips).float(), dim=1)[-num_new:])
        losses.append(contrast(queries, keys, places, places, config.temperature)[-num_new:])
        scores = of_other_view(queries @ keys.T, places, places)
        hits.append((scores.argmax(dim=1) == places ^ 1)[-num_new:])
        batch_size = len(places) // 2
    chance = math.log(batch_size)
    gaps = torch.cat(losses).double().view(-1, 2).mean(dim=1).cpu().numpy() - chance
    spread = torch.cat(features)
    return {
        "loss_heldout": float(gaps.mean()) + chance,
        "floor_chance": chance,
        "best_floor": "chance",
        **below_floor(gaps),
        "num_heldout": len(gaps),
        "num_heldout_missing": len(source) - len(gaps),
        "retrieval_top1": 100 * float(torch.cat(hits).float().mean()),
        "retrieval_chance": 100 / batch_size,
        "feature_std": float(spread.std(dim=0).mean()) * spread.shape[1] ** 0.5,
    }
