import pytest


@pytest.fixture
def wide(recipe):
    """A recipe whose models have the shapes of the files above."""
    return recipe.replace({"encoder.mlp_ratio": 4.0, "pretrain.decoder.mlp_ratio": 4.0, "finetune.drop_path_rate": 0.0})
