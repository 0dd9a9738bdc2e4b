"""Evaluation: every video of the list once, softmax averaged over its views; one that cannot be read is named, never replaced."""

import csv
import io
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vmae.claim import read_json
from vmae.config import EvaluateRun
from vmae.data.augment import to_float
from vmae.data.clips import load
from vmae.data.frames import FrameSource
from vmae.data.source import Chosen, chosen_of, manifest_of
from vmae.data.views import TestBatch, TestBatches, Views
from vmae.errors import CheckpointError, DataError, Interrupted, some
from vmae.files import write_atomic
from vmae.model.classifier import Classifier
from vmae.runs import RunDir
from vmae.sections import SubsetConfig
from vmae.train.checkpoint import content_hash, load_weights
from vmae.train.distributed import World
from vmae.train.setup import autocast
from vmae.train.training import Outcome, Place

CLIPS_PER_BATCH = 64
KNN_TEMPERATURE = 0.07  # weights exp(similarity / temperature), as DINO's (arXiv:2104.14294)
Rows = list[tuple[int, list[float]]]  # video, values
Scores = list[tuple[int, int, list[float]]]  # video, label, class probabilities


@torch.no_grad()
def evaluate(run: EvaluateRun, parent: RunDir, place: Place) -> Outcome:
    """Score the parent's model; leave predictions.csv: video, label, predicted, probability of the label, frames of its clips.

    Metrics: `top1` and `top5` in percent of the videos scored, `top1_se` the binomial standard error, `num_scored`,
    `num_expected`, and the videos that could not be read.

    Raises DataError where no video can be read, CheckpointError where what the model says of one is not finite, Interrupted.
    """
    config, trained, world = run.evaluate, run.parent, place.world
    manifest = manifest_of(trained.finetune.data, place.runtime)
    asked = chosen_of(manifest, config.split, SubsetConfig(), place.runtime)
    labels = asked.labels
    model = Classifier(trained)
    model.load_state_dict(weights := load_weights(parent.weights))
    model.to(world.device).eval()
    clip, grid = trained.finetune.clip, run.grid
    reading = Views(grid.num_frames, clip.frame_stride, grid.size_px, config.num_clips, config.num_crops, clip.sampling)

    def compute(clips: Tensor) -> Tensor:
        with autocast(config.precision, world.device):
            found = model.features(clips) if config.knn else model(clips)
        return found.float() if config.knn else found.float().softmax(dim=-1)

    started = time.perf_counter()
    if world.is_main:
        place.run_dir.note_start(0, world.size)
    scores_of = {"list_sha256": manifest.list_sha256, "weights_sha256": content_hash(weights)}
    saved = read_json(place.run_dir.partial)
    is_resumed = scores_of.items() <= saved.items()  # else of other videos, or of a parent that was trained again since
    found = Found.of(saved) if is_resumed else Found()
    save = partial(_save, place, found, scores_of)
    mean_over_views(compute, asked.frames, reading, place, found, save)
    scored, unread = sorted(found.rows), sorted(found.unread)
    if not scored:
        raise DataError(f"not one of {len(asked.rows)} {config.split} videos can be read; the first: {unread[0][1]}")
    _refuse_not_finite(scored, asked, parent)
    if config.knn:
        bank, trained_on = Found(), chosen_of(manifest, "train", trained.finetune.subset, place.runtime)
        mean_over_views(compute, trained_on.frames, reading, place, bank, save)
        _refuse_not_finite(bank.rows, trained_on, parent)
        assert trained.finetune.data.num_classes is not None
        scored = nearest(sorted(bank.rows), trained_on.labels, scored, config.knn, trained.finetune.data.num_classes)
    rows = [(video, labels[video], probabilities) for video, probabilities in scored]
    if world.is_main:
        paths = [row.path for row in asked.rows]
        write_atomic(place.run_dir.predictions, _predictions(rows, paths, dict(found.frames)).encode(), make_folder=False)
    metrics = _accuracy(rows) | {
        "num_scored": len(rows),
        "num_expected": len(asked.rows),
        "unread": [reason for _, reason in unread],
        "list_sha256": manifest.list_sha256,
    }
    spent: dict[str, object] = {"num_clips": len(rows) * reading.per_video}
    if not is_resumed:  # else part of the work was another attempt's
        spent["evaluate_s"] = time.perf_counter() - started
    return Outcome(metrics, spent)


@dataclass
class Found:
    """Rows of videos scored so far, the frames of their clips, and the videos that could not be read with the reason."""

    rows: Rows = field(default_factory=list)
    frames: list[tuple[int, list[list[int]]]] = field(default_factory=list)
    unread: list[tuple[int, str]] = field(default_factory=list)

    @staticmethod
    def of(values: Mapping[str, Any]) -> "Found":
        """Return what an interrupted evaluation saved."""
        return Found(*([(video, value) for video, value in values[name]] for name in ("rows", "frames", "unread")))

    def add(self, batch: TestBatch, rows: list[list[float]]) -> None:
        """Take the rows of a batch's videos."""
        self.rows += zip(batch.videos, rows, strict=True)
        self.frames += zip(batch.videos, batch.frames, strict=True)
        self.unread += batch.unread


def mean_over_views(
    compute: Callable[[Tensor], Tensor], source: FrameSource, reading: Views, place: Place, found: Found, save: Callable[[], None]
) -> None:
    """Add to `found` on every rank `compute`'s row [D] of each video that is not in it, averaged over its views.

    Batches are the same whoever computes them, so neither ranks nor interruptions change a bit.

    Raises:
        Interrupted: a rank was asked to stop; rank 0 has called `save`.
    """
    world = place.world
    known = {video for video, _ in (*found.rows, *found.unread)}
    per_batch = max(1, CLIPS_PER_BATCH // reading.per_video)
    batches = [range(first, min(first + per_batch, len(source))) for first in range(0, len(source), per_batch)]
    left = [batch for batch in batches if not known.issuperset(batch)]
    mine = load(
        TestBatches(source, reading, left), range(world.rank, len(left), world.size), place.runtime.num_workers, world.device
    )
    new = Found()
    for first in range(0, len(left), world.size):
        if first + world.rank < len(left):
            batch = next(mine)
            new.add(batch, _rows(compute, batch, world))
        place.run_dir.held_claim().beat()
        is_last = first + world.size >= len(left)
        (stop,) = world.any(place.stop.requested and not is_last)
        if stop or is_last:
            found.rows += world.gather(new.rows)
            found.frames += world.gather(new.frames)
            found.unread += world.gather(new.unread)
        if stop:
            if world.is_main:
                save()
            raise Interrupted(f"{place.stop.name} at video {len(found.rows) + len(found.unread)} of {len(source)}")


def _rows(compute: Callable[[Tensor], Tensor], batch: TestBatch, world: World) -> list[list[float]]:
    """Return `compute`'s row of each video, averaged over its views."""
    if not batch.videos:
        return []
    found = compute(to_float(batch.clips, world.device)).unflatten(0, (len(batch.videos), -1))
    rows: list[list[float]] = found.mean(dim=1).cpu().tolist()
    return rows


def _refuse_not_finite(rows: Rows, videos: Chosen, parent: RunDir) -> None:
    """Raise CheckpointError if a row holds NaN or infinity, which no comparison of scores would notice."""
    bad = sorted(videos.rows[video].path for video, row in rows if not all(map(math.isfinite, row)))
    if bad:
        raise CheckpointError(
            f"{parent.weights}: what this model says of {len(bad)} of {len(rows)} videos is not finite: {some(bad)}"
        )


def _save(place: Place, found: Found, scores_of: Mapping[str, str]) -> None:
    values = {**scores_of, "rows": found.rows, "frames": found.frames, "unread": found.unread}
    write_atomic(place.run_dir.partial, json.dumps(values).encode(), make_folder=False)


def nearest(bank: Rows, labels: Sequence[int], queries: Rows, k: int, num_classes: int) -> Rows:
    """Return class probabilities of `queries` by a weighted vote of the k videos of `bank` that are nearest in cosine."""
    from sklearn.neighbors import KNeighborsClassifier

    voters = KNeighborsClassifier(min(k, len(bank)), metric="cosine", weights=lambda d: np.exp((1 - d) / KNN_TEMPERATURE))
    voters.fit([row for _, row in bank], [labels[video] for video, _ in bank])
    shares = np.zeros((len(queries), num_classes))
    shares[:, voters.classes_] = voters.predict_proba([row for _, row in queries])
    return [(video, share) for (video, _), share in zip(queries, shares.tolist(), strict=True)]


def _accuracy(rows: Scores) -> dict[str, object]:
    """Return accuracies, the binomial standard error of the first, and chance, all in percent."""
    top1 = _top(rows, 1)
    return {
        "top1": 100 * top1,
        "top1_se": 100 * math.sqrt(top1 * (1 - top1) / len(rows)),
        "top5": 100 * _top(rows, 5),
        "chance": 100 / len(rows[0][2]),
    }


def _top(rows: Scores, k: int) -> float:
    """Return the share of rows whose label has fewer than k classes of higher probability (the earlier class wins a tie)."""
    ranks = (sum(q > p[label] or (q == p[label] and c < label) for c, q in enumerate(p)) for _, label, p in rows)
    return sum(rank < k for rank in ranks) / len(rows)


def _predictions(rows: Scores, paths: list[str], frames: Mapping[int, Sequence[Sequence[int]]]) -> str:
    """Return the table; frame numbers stand with spaces, clips with semicolons."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["video", "label", "predicted", "label_probability", "frames"])
    for video, label, probabilities in rows:
        predicted = probabilities.index(max(probabilities))
        clips = ";".join(" ".join(map(str, clip)) for clip in frames[video])
        writer.writerow([paths[video], label, predicted, f"{probabilities[label]:.6f}", clips])
    return text.getvalue()
