"""The model of a finished run, with its weights: for notebooks and other projects."""

from pathlib import Path

from torch import nn

from vmae.config import ContrastConfig, EvaluateRun, FinetuneRun
from vmae.identity import run_id
from vmae.model.autoencoder import VideoMAE
from vmae.model.classifier import Classifier
from vmae.model.contrast import MoCo
from vmae.runs import Store
from vmae.train.checkpoint import load_weights


def load_model(folder: str | Path) -> nn.Module:
    """Return the model of a run directory, on the CPU and set to evaluate; of an evaluation, what it evaluated.

    A VideoMAE or MoCo of a pre-training, a Classifier of a fine-tuning. Each has `grid`, and `encoder.features`: clips float
    [B, C, T, H, W] in [0, 1] -> [B, N, D].

    Raises:
        RunDirError: no run directory, or one that was edited or written by another version.
        CheckpointError: weights that are missing, as before the run's end, or damaged.
    """
    path = Path(folder).absolute()
    place = Store(path.parent).run(path.name)
    run = place.load()
    if isinstance(run, EvaluateRun):
        place, run = Store(path.parent).run(run_id(run.parent)), run.parent
    model: nn.Module
    if isinstance(run, FinetuneRun):
        model = Classifier(run)
    else:
        model = MoCo(run) if isinstance(run.pretrain, ContrastConfig) else VideoMAE(run)
    model.load_state_dict(load_weights(place.weights))
    return model.eval()
