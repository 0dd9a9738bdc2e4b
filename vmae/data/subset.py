"""Nested, stratified subsets of a list: of one seed, a smaller lies within each larger, with the list's shares of classes."""

from collections import defaultdict
from collections.abc import Sequence

from vmae.data.manifest import VideoRow
from vmae.random import Purpose, stream


def subset(rows: Sequence[VideoRow], num_videos: int, seed: int) -> set[str]:
    """Return the paths of the first `num_videos` of the subset order of `rows`."""
    return {row.path for row in subset_order(rows, seed)[:num_videos]}


def subset_order(rows: Sequence[VideoRow], seed: int) -> list[VideoRow]:
    """Return all of `rows` so that every beginning is a stratified subset: `group_order` of each video by itself.

    With one offset u in (0, 1) per class, the k-th video (from 0) of n stands at (k + u) / n, so up to place t a class has t n
    videos to within one, and among the first m of N, with C classes, it has its share m n / N to within 1 + C n / N: two videos
    where classes are equal.
    """
    return [row for (row,) in group_order([[row] for row in rows], seed)]


def group_order(groups: Sequence[Sequence[VideoRow]], seed: int) -> list[Sequence[VideoRow]]:
    """Return groups of videos so that every beginning has about the list's shares of classes.

    The groups of each class (that of their first video) are shuffled; one of s videos, with b videos of its class before it,
    stands at (b + u s) / n for the n videos of the class, and groups follow each other by place. Videos without a label are one
    class.
    """
    classes: dict[int | None, list[Sequence[VideoRow]]] = defaultdict(list)
    for group in groups:
        classes[group[0].label].append(group)
    placed = []
    for number, label in enumerate(sorted(classes, key=lambda label: -1 if label is None else label)):
        rng = stream(seed, Purpose.SUBSET, 0, number)
        members, offset, before = classes[label], rng.uniform(), 0
        total = sum(len(group) for group in members)
        for i in rng.permutation(len(members)):
            placed.append(((before + offset * len(members[i])) / total, number, members[i]))
            before += len(members[i])
    return [group for _, _, group in sorted(placed, key=lambda place: place[:2])]
