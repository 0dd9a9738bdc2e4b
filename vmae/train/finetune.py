"""Fine-tuning: all cubes, mean pooling, labels. The last weights are the result; nothing is selected on any list."""

import torch.nn.functional as F
from torch import Tensor

from vmae.config import FinetuneRun
from vmae.data.augment import to_float
from vmae.data.clips import TrainBatches
from vmae.data.source import Chosen, chosen_of, manifest_of
from vmae.errors import ConfigError
from vmae.model.classifier import Classifier
from vmae.model.formats import images_to_clips
from vmae.model.importing import load_imported
from vmae.runs import RunDir
from vmae.train.checkpoint import load_weights, save_weights
from vmae.train.distributed import World
from vmae.train.dropping import Dropping
from vmae.train.mixing import Mixer
from vmae.train.setup import autocast, seed_init
from vmae.train.training import Outcome, Place, Training


def finetune(run: FinetuneRun, parent: RunDir | None, place: Place) -> Outcome:
    """Train from the parent's encoder (None: from scratch) to the end; leave weights in the run directory.

    Raises Interrupted after saving if asked to stop, DivergedError at a loss that is not finite.
    """
    config, world = run.finetune, place.world
    manifest = manifest_of(config.data, place.runtime)
    videos = chosen_of(manifest, "train", config.subset, place.runtime)
    batches = _batches(run, videos, world)
    seed_init(config.seed)
    model = Classifier(run)
    loaded = _load_start(model, run, parent)
    model.to(world.device)
    training = Training("finetune", model, config.optim, batches, place, config.ema_decay)
    if config.mix.is_on and training.clips_per_rank % 2:
        raise ConfigError(f"finetune.mix pairs clips: {training.clips_per_rank} on each of {world.size} ranks; it must be even")
    assert config.data.num_classes is not None
    mixer = Mixer(config.mix, config.data.num_classes, config.label_smoothing, config.seed)
    dropping, places = Dropping(run, batches.clips_per_step), batches.places(world.rank)

    def loss_of(clips: Tensor, wanted: Tensor, paths: Tensor | None, features: Tensor | None) -> Tensor:
        with autocast(config.precision, world.device):
            logits = training.parallel(clips, paths, features)
        return F.cross_entropy(logits.float(), wanted)

    for batch in training.steps():
        assert batch.labels is not None
        clips, wanted = mixer(to_float(batch.clips, world.device), batch.labels, training.progress.step)
        dropped = dropping(training.progress.step, places, world.device)
        training.update(loss_of, clips, wanted, dropped.paths, dropped.features)

    metrics: dict[str, object] = {"loss_train_last": training.log.last_loss()}
    if config.subset.num_videos:
        metrics |= {"num_videos": len(videos.rows), "list_sha256": videos.list_sha256}
    if loaded:
        metrics["loaded"] = loaded
    whole = training.whole(lambda: Classifier(run))
    if world.is_main:
        save_weights(place.run_dir.weights, whole)
    return Outcome(metrics, training.compute(run.grid.num_cubes))


def _batches(run: FinetuneRun, videos: Chosen, world: World) -> TrainBatches:
    """Return the run's batches of labelled videos, this rank's share of each step."""
    config = run.finetune
    return TrainBatches(
        source=videos.frames,
        labels=videos.labels,
        clip=config.clip,
        grid=run.grid,
        reading=(run.grid.num_frames, config.clip.frame_stride),
        mask=None,
        decoder_mask=None,
        seed=config.seed,
        batch_size=config.optim.batch_size,
        repeats=config.repeats,
        rank=world.rank,
        num_ranks=world.size,
    )


def _load_start(model: Classifier, run: FinetuneRun, parent: RunDir | None) -> list[str]:
    """Load the weights that the run starts from, if any; return what is to be reported of imported ones."""
    if parent is not None:
        assert run.parent is not None
        weights = load_weights(parent.weights)
        is_inflated = run.parent.grid.is_image and not run.grid.is_image
        model.load_encoder(images_to_clips(weights, run.grid) if is_inflated else weights)
    elif run.weights is not None:
        return load_imported(model, run.weights, run.grid, run.encoder)
    return []
