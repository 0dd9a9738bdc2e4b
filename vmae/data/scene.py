"""The scene: a bright digit drifts over a dark torus.

On a torus every position is equally likely in every frame whatever the direction, so a still frame cannot tell the motion; the
speed varies along the path by independent factors, so time reversal gives a clip of the opposite direction with the same
probability. A video is a function of (scene, seed, split, index) alone.
"""

import functools
import zlib
from dataclasses import dataclass, field

import numpy as np

from vmae.errors import ConfigError

NUM_DIRECTIONS = 8
NUM_DIGITS = 10
TEST_SPLITS = ("holdout", "test")  # their digits are never shown in other splits


@dataclass(frozen=True)
class Scene:
    """What is drawn; lengths in pixels, brightness in 0..1.

    Attributes:
        speed_px: range of a video's mean speed, pixels per frame.
        speed_jitter: each frame's step is the mean speed times 1 + U(-jitter, jitter).
        shake_px: standard deviation of an independent displacement of each frame. It hides the direction from any two frames and
            leaves it in the whole clip, so that motion has to be integrated over time.
        num_blobs: static grey spots per video, at `blob_brightness`, so that what is bright need not be the digit.
    """

    size_px: int = 32
    num_frames: int = 20
    digit_px: int = 18
    speed_px: tuple[float, float] = (0.8, 1.6)
    speed_jitter: float = 0.3
    shake_px: float = 2.0
    brightness: tuple[float, float] = (0.7, 1.0)
    num_blobs: int = 0
    blob_brightness: float = 0.3

    def __post_init__(self) -> None:
        """Refuse scenes that cannot be drawn."""
        if not 8 <= self.digit_px <= self.size_px:
            raise ConfigError(f"digit_px = {self.digit_px}; allowed: 8 to size_px = {self.size_px}")
        if not 0 < self.speed_px[0] <= self.speed_px[1]:
            raise ConfigError(f"speed_px = {self.speed_px}; allowed: 0 < low <= high")
        if not self.shake_px >= 0:
            raise ConfigError(f"shake_px = {self.shake_px}; allowed: 0 or more")
        if not 0 <= self.speed_jitter < 1:
            raise ConfigError(f"speed_jitter = {self.speed_jitter}; allowed: 0 <= jitter < 1, so that no step goes back")


@dataclass(frozen=True)
class VideoSpec:
    """All random choices of one video: labels, which digit image, where it starts, how it moves."""

    motion: int
    appearance: int
    digit: int
    start: tuple[float, float]
    steps_px: tuple[float, ...]
    shakes_px: tuple[tuple[float, float], ...]
    brightness: float
    blobs: tuple[tuple[float, float, float], ...] = field(default=())


def reversed_motion(label: int) -> int:
    """Return the motion label of the clip played backwards."""
    return (label + NUM_DIRECTIONS // 2) % NUM_DIRECTIONS


def balanced_labels(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return int [count, 2] (motion, appearance): each label set balanced to within one video, the pairs spread over all 80."""
    k = np.arange(count)
    pairs = np.stack([k % NUM_DIRECTIONS, (k + k // 40) % NUM_DIGITS], axis=1)
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
    speed = rng.uniform(*scene.speed_px)
    steps = speed * (1 + scene.speed_jitter * rng.uniform(-1, 1, scene.num_frames - 1))
    shakes = rng.normal(0, scene.shake_px, (scene.num_frames, 2))
    brightness = rng.uniform(*scene.brightness)
    blobs = [(*rng.uniform(0, scene.size_px, 2), rng.uniform(1.5, 3.5)) for _ in range(scene.num_blobs)]
    return VideoSpec(
        motion,
        appearance,
        digit,
        (float(start[0]), float(start[1])),
        tuple(steps.tolist()),
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
    angle = 2 * np.pi * spec.motion / NUM_DIRECTIONS
    travelled = np.concatenate([[0.0], np.cumsum(spec.steps_px)])
    shakes = np.asarray(spec.shakes_px)
    rows = spec.start[0] + travelled * np.sin(angle) + shakes[:, 0]
    columns = spec.start[1] + travelled * np.cos(angle) + shakes[:, 1]
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
