"""`CubeGrid`: the one owner of clip geometry, from which every count of frames, slices, positions and cubes follows."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

NUM_CHANNELS = 3  # RGB


class Config(BaseModel):
    """Base of every configuration: frozen, strictly typed, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False)


class CubeGrid(Config):
    """How a clip [C, T, H, W] is cut into space-time cubes, ordered time slowest, then row, then column.

    VideoMAE (arXiv:2203.12602, section 3.3): 16 frames of 224 px in cubes of 2 x 16 x 16 give 8 x 14 x 14 = 1568 cubes.
    """

    num_frames: Annotated[int, Field(ge=1, description="frames of a clip")] = 16
    size_px: Annotated[int, Field(ge=1, description="height and width of a clip")] = 224
    tubelet_frames: Annotated[int, Field(ge=1, description="frames of a cube")] = 2
    patch_px: Annotated[int, Field(ge=1, description="height and width of a cube")] = 16

    @model_validator(mode="after")
    def _divides(self) -> "CubeGrid":
        if self.num_frames % self.tubelet_frames:
            raise ValueError(f"num_frames = {self.num_frames} is not divisible by tubelet_frames = {self.tubelet_frames}")
        if self.size_px % self.patch_px:
            raise ValueError(f"size_px = {self.size_px} is not divisible by patch_px = {self.patch_px}")
        return self

    @property
    def num_slices(self) -> int:
        """Time slices: cubes along time."""
        return self.num_frames // self.tubelet_frames

    @property
    def side(self) -> int:
        """Cubes along the height, and along the width."""
        return self.size_px // self.patch_px

    @property
    def num_positions(self) -> int:
        """Cubes of one time slice."""
        return self.side**2

    @property
    def num_cubes(self) -> int:
        """N, the cubes of a clip."""
        return self.num_slices * self.num_positions

    @property
    def cube_values(self) -> int:
        """P, the pixel values of one cube over all channels."""
        return self.tubelet_frames * self.patch_px**2 * NUM_CHANNELS

    @property
    def is_image(self) -> bool:
        """Whether a clip is a single frame."""
        return self.num_frames == 1

    def check_start_of(self, child: "CubeGrid") -> None:
        """Raise ValueError unless an encoder of this grid can be the start of one of `child`: equal cubes, or a frame's."""
        is_same_length = self.is_image or self.tubelet_frames == child.tubelet_frames
        if self.patch_px != child.patch_px or not is_same_length:
            raise ValueError(
                f"pre-trained on cubes of {self.tubelet_frames} frames of {self.patch_px} px; this grid has cubes of "
                f"{child.tubelet_frames} frames of {child.patch_px} px; allowed: the same, or a pre-training on single frames"
            )

    def check_places_of(self, child: "CubeGrid") -> None:
        """Raise ValueError unless a vector per cube of this grid serves `child`: equal counts, or a frame's for each slice."""
        own, its = ((grid.num_slices, grid.side) for grid in (self, child))
        if own[1] != its[1] or (own[0] != its[0] and not self.is_image):
            raise ValueError(
                f"encoder.positions = 'learned' of a pre-training on {own[0]} slices of {own[1]} x {own[1]} cubes do not fit the "
                f"{its[0]} slices of {its[1]} x {its[1]} here; allowed: the same, one frame of the same size, or fixed positions"
            )
