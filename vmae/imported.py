"""Weights that no run of ours made: which file, and what of it no tensor tells."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from vmae.grid import Config
from vmae.identity import NotIdentity, OmitWhen

Normalisation = Literal["imagenet", "inception"]  # timm's words
Channels = tuple[float, float, float]  # red, green, blue
NORMALISATIONS: Mapping[Normalisation, tuple[Channels, Channels]] = {  # mean and deviation of pixels in [0, 1]
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


class ImportedWeights(Config):
    """A file of weights: released, Hugging Face's, of an image MAE or another of timm's image models.

    What is in the file is identity, where it lies is not; `vmae checkpoint inspect FILE` prints the hash.
    """

    name: Annotated[str, NotIdentity(), Field(min_length=1, description="how tables call these weights")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    path: Annotated[str, NotIdentity()]
    normalisation: Annotated[
        Normalisation,
        OmitWhen("imagenet"),
        Field(description="of the pixels they were trained on: by ImageNet's mean and deviation; by 0.5 and 0.5"),
    ] = "imagenet"
