"""Profiles: slurm/profiles/<name>.toml says where jobs run and with what; checked before any job exists."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from slurm.control import parse_time_min
from vmae.config import STAGES, Stage
from vmae.errors import ConfigError, near
from vmae.grid import Config
from vmae.recipe import validate
from vmae.runtime import RuntimeConfig, num_cpus, visible_gpus


def _readable(value: str) -> str:
    try:
        parse_time_min(value)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return value


Limit = Annotated[str, AfterValidator(_readable)]
FOLDER = Path(__file__).parent / "profiles"


# A line break would end the comment that an #SBATCH line is, and what follows would be a command.
Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$")]


class LocalProfile(Config):
    """This machine, without a scheduler."""

    kind: Literal["local"]
    jobs: Annotated[int, Field(ge=1, description="at a time; null: cores / threads")] | None = None
    gpus_per_job: Annotated[int, Field(ge=0, le=1, description="1: each job runs on one of this machine's GPUs")] = 0
    jobs_per_gpu: Annotated[int, Field(ge=1, description="that share a GPU: while one starts or reads, others compute")] = 1
    runtime: RuntimeConfig = RuntimeConfig()

    @field_validator("runtime")
    @classmethod
    def _device_is_what_jobs_get(cls, runtime: RuntimeConfig, info: ValidationInfo) -> RuntimeConfig:
        """Jobs with a GPU use it or fail: `auto` would take the CPU where the GPU cannot be used."""
        gpus = info.data.get("gpus_per_job", 0)
        if runtime.device == ("cpu" if gpus else "cuda"):
            raise ValueError(
                f"device = {runtime.device!r} contradicts gpus_per_job = {gpus}; allowed: auto, {'cuda' if gpus else 'cpu'}"
            )
        return runtime.model_copy(update={"device": "cuda"}) if gpus else runtime

    @model_validator(mode="after")
    def _only_gpus_are_shared(self) -> Self:
        if self.jobs_per_gpu > 1 and not self.gpus_per_job:
            raise ValueError(f"jobs_per_gpu = {self.jobs_per_gpu}, but gpus_per_job = 0: these jobs run on the CPU; allowed: 1")
        return self

    @property
    def num_jobs(self) -> int:
        """Jobs at a time."""
        wanted = self.jobs or max(1, num_cpus() // (self.runtime.num_threads or num_cpus()))
        return min(wanted, max(1, len(visible_gpus()) * self.jobs_per_gpu)) if self.gpus_per_job else wanted


class Resources(Config):
    """Where one run goes and what it gets. With GPUs there is one task (rank) per GPU, without there are `tasks_per_node`."""

    partition: Annotated[Line, Field(description="or several with commas: whichever is free first")] | None = None
    account: Line | None = None
    qos: Line | None = None
    constraint: Line | None = None
    nodes: Annotated[int, Field(ge=1)] = 1
    gpus_per_node: Annotated[int, Field(ge=0)] = 0
    tasks_per_node: Annotated[int, Field(ge=1, description="ranks per node where there are no GPUs")] = 1
    cpus_per_task: Annotated[int, Field(ge=1, description="cores per rank, its loader processes included")] = 1
    mem_gb: Annotated[float, Field(gt=0, description="memory per node; null: the partition's default")] | None = None
    time: Annotated[Limit, Field(description="limit of one job, as SLURM writes it; an unfinished run is requeued")] = "1:00:00"
    signal_before_s: Annotated[int, Field(ge=1, description="notice before the limit; at most a third of it is used")] = 120

    @property
    def time_min(self) -> int:
        """The time limit in minutes."""
        return parse_time_min(self.time)

    @property
    def ranks_per_node(self) -> int:
        """Tasks that srun starts on each node."""
        return self.gpus_per_node or self.tasks_per_node

    @property
    def num_ranks(self) -> int:
        """Tasks that work on one run."""
        return self.nodes * self.ranks_per_node


class StageResources(Config):
    """What differs for one stage; null: as for the others."""

    partition: Line | None = None
    account: Line | None = None
    qos: Line | None = None
    constraint: Line | None = None
    nodes: Annotated[int, Field(ge=1)] | None = None
    gpus_per_node: Annotated[int, Field(ge=0)] | None = None
    tasks_per_node: Annotated[int, Field(ge=1)] | None = None
    cpus_per_task: Annotated[int, Field(ge=1)] | None = None
    mem_gb: Annotated[float, Field(gt=0)] | None = None
    time: Limit | None = None
    signal_before_s: Annotated[int, Field(ge=1)] | None = None


class SlurmProfile(Resources):
    """A SLURM cluster, or a part of one."""

    kind: Literal["slurm"]
    exclude: Annotated[Line, Field(description="nodes never to use")] | None = None
    requeue: Annotated[bool, Field(description="false where the cluster forbids it: the next submit resubmits")] = True
    max_submitted: Annotated[int, Field(ge=1, description="runs in the queue at a time; null: what SLURM allows")] | None = None
    shared_root: Annotated[bool, Field(description="true: I know that the nodes see the run root")] = False
    setup: Annotated[
        tuple[str, ...], Field(strict=False, description="shell lines before srun: module load, source, export; a toml array")
    ] = ()
    python: (
        Annotated[str, Field(min_length=1, description="shell words that start Python, a container's too; null: this one")] | None
    ) = None
    sbatch: Annotated[dict[Line, Line], Field(description="further sbatch options, for example mail-type")] = Field(
        default_factory=dict
    )
    srun: Annotated[dict[Line, Line], Field(description="further srun options, for example container-image")] = Field(
        default_factory=dict
    )
    stages: dict[Stage, StageResources] = Field(default_factory=dict)
    runtime: RuntimeConfig = RuntimeConfig()

    @model_validator(mode="after")
    def _device_is_what_jobs_get(self) -> Self:
        for stage in STAGES:
            gpus, device = self.resources(stage).gpus_per_node, self.runtime.device
            if device == ("cpu" if gpus else "cuda"):
                raise ValueError(f"runtime.device = {device!r} contradicts gpus_per_node = {gpus} of {stage}; allowed: auto")
        return self

    def resources(self, stage: str) -> Resources:
        """Return what a run of `stage` gets."""
        own = {name: getattr(self, name) for name in Resources.model_fields}
        other = self.stages.get(stage)  # type: ignore[call-overload]
        return Resources(**(own | (other.model_dump(exclude_none=True) if other else {})))

    @property
    def gpu_stages(self) -> tuple[str, ...]:
        """The stages whose runs get GPUs."""
        return tuple(stage for stage in STAGES if self.resources(stage).gpus_per_node)


Profile = LocalProfile | SlurmProfile
KINDS: dict[str, type[LocalProfile] | type[SlurmProfile]] = {"local": LocalProfile, "slurm": SlurmProfile}


def load_profile(name: str) -> Profile:
    """Read and check a profile; ConfigError for an unknown name, broken toml or a bad field, with the file.

    Args:
        name: a file of slurm/profiles/ without its ending, or the path of a .toml file anywhere.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        if name.endswith(".toml"):
            raise ConfigError(f"no profile: there is no file {path.absolute()}") from None
        raise ConfigError(f"no profile {name!r}{near(name, sorted(p.stem for p in FOLDER.glob('*.toml')))}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path}: {error}") from None
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConfigError(f"{path}: kind = {kind!r}{near(str(kind), KINDS)}")
    return validate(KINDS[kind], values, str(path))
