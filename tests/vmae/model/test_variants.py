"""The arms beside the released model: each does what its definition says, on the same clips and masks."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from vmae.config import PretrainRun
from vmae.errors import ConfigError
from vmae.grid import CubeGrid
from vmae.model.autoencoder import VideoMAE
from vmae.model.cubes import cut, take
from vmae.model.masking import draw_batch, draw_kept
from vmae.model.queries import ragged_split
from vmae.model.targets import pixel_target, reconstruction_loss
from vmae.sections import DecoderMaskConfig, MaskConfig

GRID = CubeGrid(num_frames=16, size_px=32, tubelet_frames=2, patch_px=8)


def model_of(recipe, **settings) -> tuple[PretrainRun, VideoMAE]:
    run = recipe.replace({f"pretrain.{path.replace('__', '.')}": value for path, value in settings.items()}).runs()[0]
    torch.manual_seed(0)
    return run, VideoMAE(run).eval()


@pytest.fixture
def clips():
    return torch.rand(4, 3, 16, 32, 32, generator=torch.Generator().manual_seed(1))


def masks(run, count=4, sample=0):
    return torch.from_numpy(draw_batch(run.pretrain.mask, run.grid, 0, 0, range(sample, sample + count)))


def test_ragged_masks_give_what_each_clip_gives_alone(recipe, clips):
    """Padding is invisible: a batch of clips with different numbers of visible cubes equals the clips one by one."""
    run, model = model_of(recipe, mask__count="bernoulli", mask__kind="random", mask__ratio=0.6)
    hidden = masks(run)
    assert len(set(hidden.sum(dim=1).tolist())) > 1
    alone = torch.stack([model(clips[i : i + 1], hidden[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(model(clips, hidden), alone.mean())
    split = ragged_split(hidden[:1])
    assert split.counts.all()
    assert split.real.all()


def test_a_ragged_batch_of_equal_counts_is_the_fixed_batch(recipe, clips):
    run, fixed = model_of(recipe)
    _, ragged = model_of(recipe, mask__count="bernoulli")
    hidden = masks(run)
    torch.testing.assert_close(ragged(clips, hidden), fixed(clips, hidden))


def test_bernoulli_hits_its_ratio_on_average():
    for kind in ("tube", "random", "frame", "random_per_slice"):
        drawn = draw_batch(MaskConfig(kind=kind, ratio=0.5, count="bernoulli"), GRID, 0, 0, range(2000))
        per_clip = drawn.mean(axis=1)
        assert abs(per_clip.mean() - 0.5) < 4 * per_clip.std() / 2000**0.5 + 1e-9, kind
        assert per_clip.min() > 0
        assert per_clip.max() < 1
        assert len(np.unique(per_clip)) > 4


@given(st.sampled_from([0.25, 0.5, 0.75]), st.integers(0, 1000))
def test_a_running_cell_keeps_its_share_of_each_cell_and_runs(kept, seed):
    drawn = draw_kept(DecoderMaskConfig(kind="running_cell", kept=kept), GRID, np.random.default_rng(seed)).reshape(8, 4, 4)
    cells = drawn.reshape(8, 2, 2, 2, 2).sum(axis=(2, 4))
    assert (cells == 4 * kept).all(), "in every 2 x 2 cell of every slice"
    assert (drawn[4:] == drawn[:-4]).all(), "the pattern comes back after four slices"
    assert not (drawn[1:] == drawn[:-1]).all(), "and moves between them"
    assert (drawn[:4].sum(axis=0) == 4 * kept).all(), "in four slices each place is kept that often"


def test_dual_masking_counts_hidden_and_kept_cubes_only(recipe, clips):
    run, model = model_of(recipe, decoder_mask__kind="running_cell")
    hidden = masks(run)
    kept = torch.from_numpy(np.stack([draw_kept(run.pretrain.decoder_mask, GRID, np.random.default_rng(i)) for i in range(4)]))
    predicted = model.predict(clips, hidden, kept)
    assert predicted.values.shape[1] == GRID.num_cubes // 2
    targets = take(model.targets(clips), predicted.index)
    counted = (hidden & kept).gather(1, predicted.index)
    expected = torch.stack([F.mse_loss(predicted.values[i][counted[i]], targets[i][counted[i]]) for i in range(4)]).mean()
    torch.testing.assert_close(model(clips, hidden, kept), expected)


def test_all_cubes_are_predicted_and_priced_where_asked(recipe, clips):
    run, model = model_of(recipe, loss_region="all")
    hidden = masks(run)
    predicted = model.predict(clips, hidden)
    assert torch.equal(predicted.index.sort(dim=1).values, torch.arange(GRID.num_cubes).expand(4, -1))
    expected = F.mse_loss(predicted.values, take(cut(clips, GRID), predicted.index))
    torch.testing.assert_close(model(clips, hidden), expected)
    _, only_hidden = model_of(recipe)
    torch.testing.assert_close(predicted.values[:, -int(hidden[0].sum()) :], only_hidden.predict(clips, hidden).values)


def test_a_denser_target_is_predicted_from_every_second_frame(recipe):
    run, model = model_of(recipe, target_frames="double_rate", clip__frame_stride=2)
    assert run.pretrain.reading(run.grid) == (32, 1)
    dense = torch.rand(4, 3, 32, 32, 32, generator=torch.Generator().manual_seed(1))
    hidden = masks(run)
    predicted = model.predict(dense, hidden)
    assert predicted.values.shape[-1] == 2 * run.grid.cube_values
    _, plain = model_of(recipe, clip__frame_stride=2)
    plain.encoder.load_state_dict(model.encoder.state_dict())
    odd = dense.clone()
    odd[:, :, 1::2] = 0.5
    assert torch.equal(model.predict(odd, hidden).values, predicted.values), "frames between are target only"
    assert not torch.equal(model.targets(odd), model.targets(dense))
    first = dense[0, :, 0:4, 0:8, 0:8].permute(1, 2, 3, 0).reshape(-1)
    assert torch.equal(model.targets(dense)[0, 0], first), "four frames of 1/2 stride where the input has two"


def test_a_centre_target_is_frame_half_of_the_clip(recipe, clips):
    run, model = model_of(recipe, target_frames="centre")
    hidden = masks(run)
    predicted = model.predict(clips, hidden)
    assert predicted.values.shape[-1] == 8 * 8 * 3
    assert predicted.counts.sum() == (hidden.reshape(4, 8, 16)[:, 4]).sum(), "hidden cubes of the centre slice"
    other = clips.clone()
    other[:, :, 8] = 0
    without = clips.clone()
    without[:, :, 9] = 0
    at = predicted.index[0][predicted.counts[0]]
    targets = model.targets(clips)[0, at]
    assert torch.equal(model.targets(without)[0, at], targets), "no other frame of the centre slice counts"
    assert not model.targets(other)[0, at].any(), "frame 8 of 16 does"
    assert model(clips, hidden) > 0


def test_pooled_normalisation_is_image_maes():
    cubes = torch.rand(3, 5, 24, dtype=torch.float64)
    mean, variance = cubes.mean(dim=-1, keepdim=True), cubes.var(dim=-1, keepdim=True)
    torch.testing.assert_close(pixel_target(cubes, "normalised_pooled"), (cubes - mean) / (variance + 1e-6) ** 0.5)


@given(st.integers(0, 2**31), st.sampled_from(["mse", "l1", "smooth_l1"]), st.floats(0.05, 3))
def test_weights_pick_cubes_and_beta_bends_the_loss(seed, kind, beta):
    rng = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(3, 6, 5, generator=rng, dtype=torch.float64) for _ in range(2))
    weight = torch.rand(3, 6, generator=rng) < 0.5
    weight[:, 0] = True
    full = reconstruction_loss(a, b, kind, beta)
    torch.testing.assert_close(reconstruction_loss(a, b, kind, beta, torch.ones(3, 6, dtype=torch.bool)), full)
    parts = torch.stack([reconstruction_loss(a[i, weight[i]], b[i, weight[i]], kind, beta) for i in range(3)])
    torch.testing.assert_close(reconstruction_loss(a, b, kind, beta, weight), parts.mean())
    if kind == "smooth_l1":
        gap = (a - b).abs()
        torch.testing.assert_close(full, torch.where(gap < beta, gap**2 / (2 * beta), gap - beta / 2).mean())


def test_a_clip_without_a_counted_cube_adds_zero():
    a, b = torch.ones(2, 3, 4), torch.zeros(2, 3, 4)
    weight = torch.tensor([[True, False, False], [False, False, False]])
    assert float(reconstruction_loss(a, b, "mse", weight=weight)) == 0.5


def test_a_zero_prediction_of_normalised_targets_costs_511_of_512():
    """Unbiased variance over the 512 pixels of a channel: the released loss starts there."""
    grid = CubeGrid()
    targets = pixel_target(cut(torch.rand(1, 3, 16, 224, 224, dtype=torch.float64), grid), "normalised")
    assert float(reconstruction_loss(torch.zeros_like(targets), targets, "mse")) == pytest.approx(511 / 512, rel=1e-4)


@pytest.mark.parametrize("tubelet", [1, 2, 4])
def test_tubelets_of_any_length_train(recipe, clips, tubelet):
    run, model = model_of(recipe.replace({"grid.tubelet_frames": tubelet}))
    assert model(clips, masks(run)).isfinite()


def test_image_mode_is_one_frame(recipe, clips):
    """With one frame a clip is an image, tube masking is random masking, and the ratio curve is the image's."""
    run, model = model_of(recipe.replace({"grid.num_frames": 1, "grid.tubelet_frames": 1}))
    assert run.grid.num_cubes == 16
    assert model(clips[:, :, :1], masks(run)).isfinite()


def test_learned_positions_are_weights_and_do_not_decay(recipe):
    run, model = model_of(recipe.replace({"encoder.positions": "learned", "pretrain.decoder.positions": "learned"}))
    assert {"encoder.positions.table", "decoder.positions.table"} <= set(model.state_dict())
    from vmae.train.optim import make_optimizer

    without = [
        p
        for group in make_optimizer(model, run.pretrain.optim).param_groups
        if not group["weight_decay"]
        for p in group["params"]
    ]
    assert any(p is model.encoder.positions.table for p in without)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pretrain.loss_beta": 0.5}, "loss_beta = 0.5 would do nothing"),
        ({"pretrain.decoder_mask.kept": 0.25}, "decoder_mask.kept = 0.25 would do nothing"),
        ({"pretrain.target_frames": "double_rate"}, "needs an even clip.frame_stride; it is 1"),
        ({"pretrain.mask.kind": "block", "pretrain.mask.count": "bernoulli"}, "which kind = 'block' does not have"),
        ({"pretrain.loss_region": "all", "pretrain.decoder_mask.kind": "random"}, "loss_region = 'all' goes only with"),
        (
            {"pretrain.mask.count": "bernoulli", "pretrain.decoder_mask.kind": "random"},
            "goes only with decoder_mask.kind = 'none'",
        ),
        ({"pretrain.decoder_mask.kind": "running_cell", "pretrain.decoder_mask.kept": 0.6}, "0.25, 0.5 or 0.75"),
        ({"pretrain.decoder_mask.kind": "random", "pretrain.decoder_mask.kept": 0.001}, "keeps none of 128 cubes"),
    ],
)
def test_combinations_that_mean_nothing_are_refused(recipe, settings, words):
    with pytest.raises(ConfigError) as caught:
        recipe.replace(settings).runs()
    assert words in str(caught.value)
