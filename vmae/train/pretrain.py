"""Pre-training: hide cubes, encode the rest, predict what was hidden."""

from torch import Tensor

from vmae.config import PretrainRun
from vmae.data.augment import to_float
from vmae.data.clips import TrainBatches
from vmae.data.frames import FrameSource
from vmae.data.source import chosen_of, manifest_of
from vmae.model.autoencoder import VideoMAE
from vmae.train.checkpoint import save_weights
from vmae.train.distributed import World
from vmae.train.heldout import heldout_batches, judge, open_heldout, save_reconstruction
from vmae.train.setup import autocast, seed_init
from vmae.train.training import Outcome, Place, Training


def pretrain(run: PretrainRun, place: Place) -> Outcome:
    """Train to the end; leave weights and a reconstruction in the run directory.

    Raises Interrupted after saving if asked to stop, DivergedError at a loss that is not finite, DataError before training where
    no held-out video can be read.
    """
    config, world = run.masked, place.world
    manifest = manifest_of(config.data, place.runtime)
    videos = chosen_of(manifest, "pretrain", config.subset, place.runtime)
    judging = open_heldout(manifest, config, run.grid, place.runtime)
    batches = train_batches(run, videos.frames, world)
    seed_init(config.seed)
    model = VideoMAE(run).to(world.device)
    training = Training("pretrain", model, config.optim, batches, place)

    def loss_of(clips: Tensor, hidden: Tensor, kept: Tensor | None) -> Tensor:
        with autocast(config.precision, world.device):
            loss: Tensor = training.parallel(to_float(clips, world.device), hidden, kept)
        return loss

    for batch in training.steps():
        training.update(loss_of, batch.clips, batch.hidden, batch.kept)

    metrics: dict[str, object] = {}
    num_visible = run.grid.num_cubes - config.mask.num_hidden(run.grid)
    spent = training.compute(num_visible)  # before judging, whose memory is another
    whole = training.whole(lambda: VideoMAE(run))
    assert isinstance(whole, VideoMAE)
    if world.is_main:
        save_weights(place.run_dir.weights, whole)  # before judging, whatever comes of that
        heldout = heldout_batches(judging, config, run.grid, world)
        metrics = judge(whole, heldout, len(judging), config, world)
        metrics |= {"num_videos": len(videos.rows), "list_sha256": videos.list_sha256}
        save_reconstruction(place.run_dir.reconstruction, whole, heldout[0], config, world)
    return Outcome(metrics, spent)


def train_batches(run: PretrainRun, videos: FrameSource, world: World) -> TrainBatches:
    """Return the run's batches of `videos`, this rank's share of each step."""
    config = run.masked
    return TrainBatches(
        source=videos,
        labels=None,
        clip=config.clip,
        grid=run.grid,
        reading=config.reading(run.grid),
        mask=config.mask,
        decoder_mask=None if config.decoder_mask.kind == "none" else config.decoder_mask,
        seed=config.seed,
        batch_size=config.optim.batch_size // config.repeats,
        repeats=config.repeats,
        clips_per_video=1,
        share_frames=config.repeats_share_frames,
        rank=world.rank,
        num_ranks=world.size,
    )
