"""Targets as released, losses as named, floors that are what they say."""

import numpy as np
import pytest
import torch

from vmae.grid import CubeGrid
from vmae.model.cubes import cut
from vmae.model.floors import trivial_predictions
from vmae.model.masking import draw_batch
from vmae.model.targets import cube_statistics, denormalise, pixel_target, reconstruction_loss
from vmae.sections import MaskConfig

GRID = CubeGrid(num_frames=8, size_px=16, tubelet_frames=2, patch_px=8)


def test_normalised_target_is_per_cube_and_channel_with_unbiased_variance():
    """Against numpy, cube by cube and channel by channel (reference 4.4)."""
    cubes = torch.rand(2, 3, 24, dtype=torch.float64)
    target = pixel_target(cubes, "normalised")
    for b in range(2):
        for n in range(3):
            for channel in range(3):
                values = cubes[b, n, channel::3].numpy()
                expected = (values - values.mean()) / (np.sqrt(values.var(ddof=1)) + 1e-6)
                np.testing.assert_allclose(target[b, n, channel::3], expected, rtol=1e-12)


def test_predicting_zero_on_normalised_targets_costs_511_of_512():
    """Reference 4.4: a cube has 512 pixels per channel and the variance is unbiased."""
    target = pixel_target(torch.rand(4, 7, 1536, dtype=torch.float64), "normalised")
    loss = reconstruction_loss(torch.zeros_like(target), target, "mse")
    assert float(loss) == pytest.approx(511 / 512, rel=1e-4)


def test_denormalise_inverts_normalising():
    cubes = torch.rand(2, 3, 24)
    target = pixel_target(cubes, "normalised")
    torch.testing.assert_close(denormalise(target, *cube_statistics(cubes, "normalised")), cubes)


def test_losses_are_what_they_are_called():
    predicted, target = torch.tensor([0.0, 3.0]), torch.tensor([0.5, 0.0])
    assert float(reconstruction_loss(predicted, target, "mse")) == pytest.approx((0.25 + 9) / 2)
    assert float(reconstruction_loss(predicted, target, "l1")) == pytest.approx((0.5 + 3) / 2)
    assert float(reconstruction_loss(predicted, target, "smooth_l1")) == pytest.approx((0.125 + 2.5) / 2)


CONSTANT = torch.tensor([0.1, 0.2, 0.3])


def naive_floors(targets, hidden):
    """The definition, in loops."""
    constant = torch.tensor([[[(0.1, 0.2, 0.3)[value % 3] for value in range(targets.shape[-1])]]]).expand_as(targets)
    s, q = GRID.num_slices, GRID.num_positions
    mean = torch.empty_like(targets)
    copy = torch.empty_like(targets)
    for b in range(len(targets)):
        visible = [n for n in range(s * q) if not hidden[b, n]]
        channel_means = torch.stack([targets[b, visible].reshape(-1, 3)[:, c].mean() for c in range(3)])
        mean[b] = channel_means.repeat(targets.shape[-1] // 3)
        for n in range(s * q):
            candidates = [m for m in visible if m % q == n % q]
            nearest = min(candidates, key=lambda m: (abs(m // q - n // q), m), default=None)
            copy[b, n] = mean[b, n] if nearest is None else targets[b, nearest]
    return {"constant": constant, "visible_mean": mean, "nearest_copy": copy, "average": (mean + copy) / 2}


@pytest.mark.parametrize(("kind", "ratio"), [("tube", 0.5), ("random", 0.75), ("frame", 0.75)])
def test_floors_match_their_definition(kind, ratio):
    torch.manual_seed(0)
    targets = cut(torch.rand(3, 3, 8, 16, 16), GRID)
    hidden = torch.from_numpy(draw_batch(MaskConfig(kind=kind, ratio=ratio), GRID, 0, 0, range(3)))
    for name, expected in naive_floors(targets, hidden).items():
        torch.testing.assert_close(trivial_predictions(targets, hidden, CONSTANT, GRID)[name], expected, msg=name)


def test_copying_is_perfect_on_still_clips_but_not_under_tubes():
    still = torch.rand(2, 3, 1, 16, 16).expand(-1, -1, 8, -1, -1)
    targets = cut(still, GRID)
    for kind, perfect in (("frame", True), ("tube", False)):
        hidden = torch.from_numpy(draw_batch(MaskConfig(kind=kind, ratio=0.5), GRID, 0, 0, range(2)))
        copy = trivial_predictions(targets, hidden, CONSTANT, GRID)["nearest_copy"]
        assert torch.equal(copy, targets) == perfect
