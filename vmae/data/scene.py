"""The scene: a bright digit steps over a dark torus, and only the order of the frames tells how.

In each of the 16 frames of a period the digit stands on one of 16 equally spaced places of a line that closes on the torus.
The motion label is the signed step, an odd number of places: +-1, +-3, +-5, +-7. Odd steps visit every place exactly once, so
all eight classes show the *same set* of frames: a still frame says nothing, nor do all frames in shuffled order, and the reversed
clip has the opposite label. The line's axis, the start, each frame's shake and the brightness are nuisances drawn alike for all
labels. A video is a function of (scene, seed, split, index) alone.
"""

import functools
import zlib
from dataclasses import dataclass, field

import numpy as np

from vmae.errors import ConfigError

SPEEDS = (1, 3, 5, 7, -1, -3, -5, -7)  # places per frame, by motion label
AXES = ((0, 1), (1, 0), (1, 1), (1, -1))  # (row, column); each closes on the torus after one period
PERIOD_FRAMES = 16
NUM_DIGITS = 10
TEST_SPLITS = ("holdout", "test")  # their digits are never shown in other splits


@dataclass(frozen=True)
class Scene:
    """What is drawn; lengths in pixels, brightness in 0..1.

    Attributes:
        shake_px: standard deviation of an independent displacement of each frame, so that two frames alone tell the step badly.
        num_blobs: static grey spots per video, at `blob_brightness`, so that what is bright need not be the digit.
        travels: whether the digit moves as its label says, or only shakes.
    """

    size_px: int = 32
    num_frames: int = 20
    digit_px: int = 18
    shake_px: float = 1.0
    brightness: tuple[float, float] = (0.7, 1.0)
    num_blobs: int = 0
    blob_brightness: float = 0.3
    travels: bool = True

    def __post_init__(self) -> None:
        """Refuse scenes that cannot be drawn."""
        if not 8 <= self.digit_px <= self.size_px:
            raise ConfigError(f"digit_px = {self.digit_px}; allowed: 8 to size_px = {self.size_px}")
        if not self.shake_px >= 0:
            raise ConfigError(f"shake_px = {self.shake_px}; allowed: 0 or more")
        if not 0 < self.brightness[0] <= self.brightness[1] <= 1:
            raise ConfigError(f"brightness = {self.brightness}; allowed: 0 < low <= high <= 1")


@dataclass(frozen=True)
class VideoSpec:
    """All random choices of one video: labels, which digit image, where it starts, how it moves."""

    motion: int
    appearance: int
    digit: int
    axis: int
    start: tuple[float, float]
    shakes_px: tuple[tuple[float, float], ...]
    brightness: float
    blobs: tuple[tuple[float, float, float], ...] = field(default=())


def reversed_motion(label: int) -> int:
    """Return the motion label of the clip played backwards."""
    return SPEEDS.index(-SPEEDS[label])


def balanced_labels(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return int [count, 2] (motion, appearance): each label set balanced to within one video, the pairs spread over all 80."""
    k = np.arange(count)
    pairs = np.stack([k % len(SPEEDS), (k + k // 40) % NUM_DIGITS], axis=1)
    return rng.permutation(pairs)


def draw_specs(scene: Scene, seed: int, split: str, count: int) -> list[VideoSpec]:
    """Draw the specs of the first `count` videos of a split of `count`."""
    key = zlib.crc32(split.encode())
    labels = balanced_labels(count, np.random.default_rng((seed, key)))
    pools = digit_pools(seed, split in TEST_SPLITS)
    return [
        _draw(scene, np.random.default_rng((seed, key, i)), int(labels[i, 0]), int(labels[i, 1]), pools) for i in range(count)
    ]


def _draw(scene: Scene, rng: np.random.Generator, motion: int, appearance: int, pools: list[np.ndarray]) -> VideoSpec:
    digit = int(rng.choice(pools[appearance]))
    start = rng.uniform(0, scene.size_px, 2)
    axis = int(rng.integers(len(AXES)))
    shakes = rng.normal(0, scene.shake_px, (scene.num_frames, 2))
    brightness = rng.uniform(*scene.brightness)
    blobs = [(*rng.uniform(0, scene.size_px, 2), rng.uniform(1.5, 3.5)) for _ in range(scene.num_blobs)]
    return VideoSpec(
        motion,
        appearance,
        digit,
        axis,
        (float(start[0]), float(start[1])),
        tuple((float(dy), float(dx)) for dy, dx in shakes),
        float(brightness),
        tuple((float(y), float(x), float(r)) for y, x, r in blobs),
    )


@functools.cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images.reshape(-1, 8, 8) / 16.0, labels


def digit_pools(seed: int, for_test: bool) -> list[np.ndarray]:
    """Return, per class, the digit images (rows of scikit-learn's load_digits) of one side of a 2:1 split by `seed`."""
    _, labels = _digits()
    rng = np.random.default_rng((seed, zlib.crc32(b"digit pools")))
    pools = []
    for digit in range(NUM_DIGITS):
        order = rng.permutation(np.flatnonzero(labels == digit))
        cut = 2 * len(order) // 3
        pools.append(order[cut:] if for_test else order[:cut])
    return pools


@functools.lru_cache(maxsize=2048)
def _sprite(digit: int, digit_px: int) -> np.ndarray:
    """Return one digit image enlarged smoothly to [digit_px, digit_px], in 0..1, with a dark margin for interpolation."""
    from scipy.ndimage import zoom

    sprite = np.clip(zoom(_digits()[0][digit], digit_px / 8, order=3, mode="grid-constant", grid_mode=True), 0, 1)
    return np.pad(sprite, 1)


def render(scene: Scene, spec: VideoSpec) -> np.ndarray:
    """Draw a video, uint8 [T, H, W, 3]; three equal channels."""
    speed = SPEEDS[spec.motion] if scene.travels else 0
    travelled = np.arange(scene.num_frames) * speed * (scene.size_px / PERIOD_FRAMES)
    shakes = np.asarray(spec.shakes_px)
    rows = spec.start[0] + travelled * AXES[spec.axis][0] + shakes[:, 0]
    columns = spec.start[1] + travelled * AXES[spec.axis][1] + shakes[:, 1]
    canvas = np.repeat(_background(scene, spec)[None], scene.num_frames, axis=0)
    sprite = _sprite(spec.digit, scene.digit_px) * spec.brightness
    for frame, row, column in zip(canvas, rows, columns, strict=True):
        _draw_on_torus(frame, sprite, row, column)
    grey = np.rint(canvas * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def _draw_on_torus(frame: np.ndarray, sprite: np.ndarray, row: float, column: float) -> None:
    """Lay the sprite over the frame with its corner at a real-valued place, bilinear, wrapping around the edges."""
    top, left = int(np.floor(row)), int(np.floor(column))
    fy, fx = row - top, column - left
    padded = np.pad(sprite, ((1, 1), (1, 1)))
    down = padded[1:] * (1 - fy) + padded[:-1] * fy
    shifted = down[:, 1:] * (1 - fx) + down[:, :-1] * fx
    size = frame.shape[0]
    where = np.ix_((top + np.arange(shifted.shape[0])) % size, (left + np.arange(shifted.shape[1])) % size)
    frame[where] = np.maximum(frame[where], shifted)


def _background(scene: Scene, spec: VideoSpec) -> np.ndarray:
    """Return the static background [H, W]: dark, with the spec's blobs on the torus."""
    background = np.zeros((scene.size_px, scene.size_px))
    axis = np.arange(scene.size_px)
    for row, column, radius in spec.blobs:
        dy = (axis - row + scene.size_px / 2) % scene.size_px - scene.size_px / 2
        dx = (axis - column + scene.size_px / 2) % scene.size_px - scene.size_px / 2
        spot = np.exp(-(dy[:, None] ** 2 + dx[None] ** 2) / (2 * radius**2)) * scene.blob_brightness
        background = np.maximum(background, spot)
    return background
