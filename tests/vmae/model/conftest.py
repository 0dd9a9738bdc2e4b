import pytest


@pytest.fixture
def wide(recipe):
    """A recipe whose models have the shapes of the files above."""
    return recipe.replace({"encoder.mlp_ratio": 4.0, "pretrain.decoder.mlp_ratio": 4.0, "finetune.drop_path_rate": 0.0})


@pytest.fixture
def as_released(wide):
    """The same with the positions that other projects' code adds."""
    return wide.replace({"encoder.positions": "sincos_1d", "pretrain.decoder.positions": "sincos_1d"})
