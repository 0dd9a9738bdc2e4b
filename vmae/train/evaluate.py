"""Evaluation: every video of the list once, softmax averaged over its clips; one that cannot be read is named, never replaced."""

import csv
import io
import math

import torch

from vmae.config import EvaluateRun
from vmae.data.augment import to_float
from vmae.data.clips import test_views
from vmae.data.source import frames_of, labels_of, manifest_of
from vmae.errors import DataError
from vmae.files import write_atomic
from vmae.model.classifier import Classifier
from vmae.runs import RunDir
from vmae.train.checkpoint import load_weights
from vmae.train.setup import autocast
from vmae.train.training import Outcome, Place

CLIPS_PER_BATCH = 64


@torch.no_grad()
def evaluate(run: EvaluateRun, parent: RunDir, place: Place) -> Outcome:
    """Score the parent's model; leave predictions.csv (video, label, predicted, probability of the label).

    Metrics: `top1` and `top5` in percent of the videos scored, `top1_se` the binomial standard error, `num_scored`,
    `num_expected`, and the videos that could not be read.
    """
    config, trained, world = run.evaluate, run.parent, place.world
    manifest = manifest_of(trained.finetune.data, place.runtime)
    source = frames_of(manifest, config.split, place.runtime)
    labels = labels_of(manifest, config.split)
    model = Classifier(trained)
    model.load_state_dict(load_weights(parent.weights))
    model.to(world.device).eval()

    mine = list(range(world.rank, len(source), world.size))
    per_batch = max(1, CLIPS_PER_BATCH // config.num_clips)
    scored: list[tuple[int, list[float]]] = []
    unread: list[tuple[int, str]] = []
    for first in range(0, len(mine), per_batch):
        videos, views = [], []
        for video in mine[first : first + per_batch]:
            try:
                views.append(test_views(source, video, config.num_clips, trained.finetune.clip.frame_stride, run.grid))
                videos.append(video)
            except DataError as error:
                unread.append((video, str(error)))
        if not videos:
            continue
        with autocast(config.precision, world.device):
            logits = model(to_float(torch.cat(views), world.device))
        probabilities = logits.float().softmax(dim=-1).unflatten(0, (len(videos), config.num_clips)).mean(dim=1)
        scored += zip(videos, probabilities.cpu().tolist(), strict=True)

    scored, unread = sorted(world.gather(scored)), sorted(world.gather(unread))
    if not scored:
        raise DataError(f"not one of {len(source)} {config.split} videos can be read; the first: {unread[0][1]}")
    rows = [(video, labels[video], probabilities) for video, probabilities in scored]
    if world.is_main:
        paths = [row.path for row in manifest.select(config.split)]
        write_atomic(place.run_dir.predictions, _predictions(rows, paths).encode())
    top1 = _top(rows, 1)
    metrics: dict[str, object] = {
        "top1": 100 * top1,
        "top1_se": 100 * math.sqrt(top1 * (1 - top1) / len(rows)),
        "top5": 100 * _top(rows, 5),
        "chance": 100 / len(rows[0][2]),
        "num_scored": len(rows),
        "num_expected": len(source),
        "unread": [reason for _, reason in unread],
        "list_sha256": manifest.list_sha256,
    }
    return Outcome(metrics, {"num_clips": len(rows) * config.num_clips})


def _top(rows: list[tuple[int, int, list[float]]], k: int) -> float:
    """Return the share of rows whose label has fewer than k classes of higher probability (the earlier class wins a tie)."""
    ranks = (sum(q > p[label] or (q == p[label] and c < label) for c, q in enumerate(p)) for _, label, p in rows)
    return sum(rank < k for rank in ranks) / len(rows)


def _predictions(rows: list[tuple[int, int, list[float]]], paths: list[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["video", "label", "predicted", "label_probability"])
    for video, label, probabilities in rows:
        writer.writerow([paths[video], label, probabilities.index(max(probabilities)), f"{probabilities[label]:.6f}"])
    return text.getvalue()
