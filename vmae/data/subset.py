"""Nested, stratified subsets of a list: of one seed, a smaller lies within each larger, with the list's shares of classes."""

from collections import defaultdict
from collections.abc import Sequence

from vmae.data.manifest import VideoRow
from vmae.random import Purpose, stream


def subset(rows: Sequence[VideoRow], num_videos: int, seed: int) -> set[str]:
    """Return the paths of the first `num_videos` of the subset order of `rows`."""
    return {row.path for row in subset_order(rows, seed)[:num_videos]}


def subset_order(rows: Sequence[VideoRow], seed: int) -> list[VideoRow]:
    """Return all of `rows` so that every beginning is a stratified subset.

    Each class is shuffled; its k-th video (from 0) of n stands at (k + u) / n with one u in (0, 1) per class, and videos follow
    each other by place. Up to place t a class has t n videos to within one, so among the first m of N, with C classes, it has
    its share m n / N to within 1 + C n / N: two videos where classes are equal. Videos without a label are one class.
    """
    classes: dict[int | None, list[VideoRow]] = defaultdict(list)
    for row in rows:
        classes[row.label].append(row)
    placed = []
    for number, label in enumerate(sorted(classes, key=lambda label: -1 if label is None else label)):
        rng = stream(seed, Purpose.SUBSET, 0, number)
        members, offset = classes[label], rng.uniform()
        placed += [((k + offset) / len(members), number, members[i]) for k, i in enumerate(rng.permutation(len(members)))]
    return [row for _, _, row in sorted(placed, key=lambda place: place[:2])]
