"""Profiles: slurm/profiles/<name>.toml says where jobs run and with what; checked before any job exists."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vmae.errors import ConfigError, near
from vmae.grid import Config
from vmae.recipe import validate
from vmae.runtime import RuntimeConfig

FOLDER = Path(__file__).parent / "profiles"


class Profile(Config):
    """One place to run."""

    kind: Literal["local"]
    jobs: Annotated[int, Field(ge=1, description="at a time; null: cores / threads")] | None = None
    gpus_per_job: Annotated[int, Field(ge=0, le=1)] = 0
    runtime: RuntimeConfig = RuntimeConfig()


def load_profile(name: str) -> Profile:
    """Read and check a profile; ConfigError for an unknown name, broken toml or a bad field, with the file."""
    path = FOLDER / f"{name}.toml"
    if not path.exists():
        raise ConfigError(f"no profile {name!r}{near(name, sorted(p.stem for p in FOLDER.glob('*.toml')))}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    return validate(Profile, values, str(path))
