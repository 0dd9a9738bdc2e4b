"""Where and how fast a run runs; never what it is. Written beside the config, recorded with the result, not hashed."""

import os
import re
import shutil
import subprocess
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from vmae.errors import near
from vmae.grid import Config

DECODERS = ("pyav", "decord", "torchcodec")


class RuntimeConfig(Config):
    """Settings of the place: a profile's `[runtime]` table."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    num_threads: Annotated[int, Field(ge=1, description="of torch, per process")] | None = None
    num_workers: Annotated[int, Field(ge=0, description="loader processes per rank; 0 reads in the training process")] = 0
    micro_batch_size: Annotated[int, Field(ge=1, description="clips per forward; the global batch stays")] | None = None
    compile: Annotated[
        bool,
        Field(
            description="through torch.compile, kept in data_root/cache/compiled; worth it on a GPU, on CPUs 0 to 4 % for minutes"
        ),
    ] = False
    cuda_graphs: Annotated[
        bool,
        Field(description="on one GPU alone: record a training step once and replay it, which small models gain most by"),
    ] = True
    bucket_mb: Annotated[
        float, Field(gt=0.0, description="gradients that ranks average at a time: fewer megabytes start earlier, more cost less")
    ] = 25.0
    shard: Annotated[
        bool,
        Field(description="weights, gradients and optimiser state spread over ranks (FSDP), for models too large for one"),
    ] = False
    attention: Annotated[
        Literal["auto", "fused", "explicit"],
        Field(description="auto: PyTorch's fused kernel, on CPUs in bf16 our own (faster); explicit: three operations"),
    ] = "auto"
    share_mask_tokens: Annotated[
        bool | None,
        Field(description="the decoder's first block computes them once for all clips; null: on CPUs, where it is faster"),
    ] = None
    recompute: Annotated[bool, Field(description="blocks anew in the backward pass: less memory, a third more compute")] = False
    decode_backend: Annotated[str, Field(description="auto, or of DECODERS one or several with commas")] = "auto"
    cache: Annotated[
        bool | None,
        Field(description="decode each video once into a uint8 memory map; null: of embedded sets only"),
    ] = None
    decode_timeout_s: Annotated[
        float, Field(gt=0.0, description="for opening a video and for decoding a clip; then its process is killed")
    ] = 60.0
    max_quarantined: Annotated[float, Field(ge=0.0, le=1.0, description="share of a training split's videos")] = 0.05
    data_root: Annotated[str, Field(description="where embedded sets and caches lie")] = Field(
        default_factory=lambda: str(default_data_root())
    )
    checkpoint_every_s: Annotated[float, Field(ge=0.0, description="0: after every step")] = 60.0
    log_every_steps: Annotated[int, Field(ge=1)] = 20

    @field_validator("decode_backend")
    @classmethod
    def _is_known(cls, words: str) -> str:
        """Whether it is installed is for the machine that decodes to say."""
        for word in [] if words == "auto" else words.split(","):
            if word not in DECODERS:
                raise ValueError(f"decode_backend = {words!r}: no decoder {word!r}{near(word, ('auto', *DECODERS))}")
        return words

    @field_validator("data_root")
    @classmethod
    def _is_one_place(cls, root: str) -> str:
        """Jobs have working directories of their own."""
        if not root:
            raise ValueError("data_root is empty; leave it out for $VMAE_DATA, or ./data")
        return str(Path(root).expanduser().absolute())

    @model_validator(mode="after")
    def _shards_are_not_compiled(self) -> Self:
        if self.shard and self.compile:
            raise ValueError("shard and compile do not go together: compiled, a model would not gather its shards; drop one")
        return self


def default_data_root() -> Path:
    """Return $VMAE_DATA, or `data` in the working directory."""
    return Path(os.environ.get("VMAE_DATA", "data")).absolute()


def num_cpus() -> int:
    """Return the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Return the GPUs this process may use, as CUDA_VISIBLE_DEVICES names them; found without torch, through NVIDIA's driver."""
    if (given := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        # As CUDA reads it: up to the first that names no GPU.
        return list(takewhile(re.compile(r"\d+|(GPU|MIG)-\S+").fullmatch, map(str.strip, given.split(","))))
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    return [str(k) for k in range(len(re.findall(r"^GPU \d+:", listed, re.MULTILINE)))]
