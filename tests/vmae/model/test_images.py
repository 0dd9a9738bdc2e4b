"""Pre-training on single frames: inflated into a clip model, a still clip gives what its frame gave."""

import pytest
import torch
from helpers import run_chain

from vmae.errors import ConfigError
from vmae.model.blocks import Encoder
from vmae.model.cubes import cut
from vmae.model.formats import images_to_clips
from vmae.train.checkpoint import load_weights

IMAGES = {"pretrain.mask.kind": "random", "pretrain.mask.ratio": 0.75}


@pytest.mark.parametrize("positions", ["sincos_3d", "learned"])
def test_a_still_clip_embeds_as_its_frame(recipe, positions):
    grid, frame_grid = recipe.grid, recipe.image_grid
    config = recipe.encoder.model_copy(update={"positions": positions})
    image, clip = Encoder(frame_grid, config, final_norm=True), Encoder(grid, config, final_norm=True)
    weights = {f"encoder.{name}": tensor for name, tensor in image.state_dict().items()}
    inflated = images_to_clips(weights, grid)
    clip.load_state_dict({name.removeprefix("encoder."): tensor for name, tensor in inflated.items()})
    frame = torch.rand(2, 3, 1, grid.size_px, grid.size_px)
    still = frame.expand(-1, -1, grid.num_frames, -1, -1)
    of_frame, of_clip = image.embed(cut(frame, frame_grid)), clip.embed(cut(still, grid))
    torch.testing.assert_close(of_clip, of_frame.repeat(1, grid.num_slices, 1), rtol=1e-5, atol=1e-5)
    if positions == "learned":
        torch.testing.assert_close(clip.positions(), image.positions().repeat(grid.num_slices, 1))


def test_fine_tuning_starts_from_the_inflated_encoder(recipe, store, runtime):
    images = recipe.replace(IMAGES | {"pretrain_grid": recipe.image_grid, "finetune.optim.base_lr": 1e-12})
    images = images.replace({"finetune.optim.weight_decay": 0.0})
    results = run_chain(store, images, runtime)
    assert results["pretrain"].metrics["num_visible_cubes"] == 4
    assert set(results) == {"pretrain", "finetune", "evaluate"}
    trained, tuned = (load_weights(store.run(results[stage].run_id).weights) for stage in ("pretrain", "finetune"))
    wanted = images_to_clips(trained, recipe.grid)
    for name, tensor in tuned.items():
        if name.startswith("encoder."):
            torch.testing.assert_close(tensor, wanted[name], rtol=0, atol=1e-6)


def test_what_cannot_feed_is_refused(recipe):
    with pytest.raises(ConfigError, match="pre-trained on cubes of 4 frames of 8 px; this grid has cubes of 2 frames"):
        recipe.replace({"pretrain_grid": recipe.grid.model_copy(update={"tubelet_frames": 4})}).runs()
    with pytest.raises(ConfigError, match="target_frames = 'centre' needs clips"):
        recipe.replace({"pretrain_grid": recipe.image_grid, "pretrain.target_frames": "centre"}).runs()
    frames = {"pretrain.mask.kind": "frame", "pretrain.mask.ratio": 0.5}
    with pytest.raises(ConfigError, match="no multiple of 1/1 slices"):
        recipe.replace({"pretrain_grid": recipe.image_grid} | frames).runs()
