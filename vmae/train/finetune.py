"""Fine-tuning: all cubes, mean pooling, labels. The last weights are the result; nothing is selected on any list."""

import torch.nn.functional as F
from torch import Tensor

from vmae.config import FinetuneRun
from vmae.data.augment import to_float
from vmae.data.clips import TrainBatches
from vmae.data.source import frames_of, labels_of, manifest_of
from vmae.model.classifier import Classifier
from vmae.runs import RunDir
from vmae.train.checkpoint import load_weights, save_weights
from vmae.train.setup import INIT_STEP, autocast, seed_step
from vmae.train.training import Outcome, Place, Training


def finetune(run: FinetuneRun, parent: RunDir | None, place: Place) -> Outcome:
    """Train from the parent's encoder (None: from scratch) to the end; leave weights in the run directory.

    Raises Interrupted after saving if asked to stop, DivergedError at a loss that is not finite.
    """
    config, world = run.finetune, place.world
    manifest = manifest_of(config.data, place.runtime)
    batches = TrainBatches(
        source=frames_of(manifest, "train", place.runtime),
        labels=labels_of(manifest, "train"),
        clip=config.clip,
        grid=run.grid,
        mask=None,
        seed=config.seed,
        batch_size=config.optim.batch_size,
        rank=world.rank,
        num_ranks=world.size,
    )
    seed_step(config.seed, INIT_STEP, rank=0)
    model = Classifier(run)
    if parent is not None:
        model.load_encoder(load_weights(parent.weights))
    model.to(world.device)
    training = Training("finetune", model, config.optim, batches, place)
    for batch in training.steps():
        assert batch.labels is not None
        clips, labels = to_float(batch.clips, world.device), batch.labels.to(world.device)

        def loss_of(part: slice, clips: Tensor = clips, labels: Tensor = labels) -> Tensor:
            with autocast(config.precision, world.device):
                logits = training.parallel(clips[part])
            return F.cross_entropy(logits.float(), labels[part], label_smoothing=config.label_smoothing)

        training.update(loss_of)

    if world.is_main:
        save_weights(place.run_dir.weights, model)
    return Outcome({"loss_train_last": training.log.last_loss()}, training.compute(run.grid.num_cubes))
