"""From words to configs: the recipe an arm changes, dotted overrides, and errors that say what to type instead."""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from vmae.config import (
    METHODS,
    ContrastConfig,
    EvaluateConfig,
    EvaluateRun,
    FinetuneConfig,
    FinetuneRun,
    PretrainRun,
    PretrainSection,
    Run,
)
from vmae.errors import ConfigError, near
from vmae.grid import Config, CubeGrid
from vmae.imported import ImportedWeights
from vmae.sections import EncoderConfig

C = TypeVar("C", bound=BaseModel)
_RUN: TypeAdapter[Run] = TypeAdapter(Annotated[Run, Field(discriminator="stage")])


class Alternatives(Config):
    """What a data set's recipe has in reserve for arms that ask for another kind of pre-training or read-out; null: nothing."""

    scratch_epochs: Annotated[int, Field(ge=1, description="of training from scratch; null: as fine-tuning")] | None = None
    linear_probe: FinetuneConfig | None = None
    contrast: ContrastConfig | None = None
    image_weights: Annotated[ImportedWeights | None, Field(description="an image MAE's")] = None
    supervised_weights: Annotated[ImportedWeights | None, Field(description="of a classifier of images")] = None


class Recipe(Config):
    """What an arm is before it becomes runs: one section per stage and the geometry that they share."""

    grid: CubeGrid = CubeGrid()
    encoder: EncoderConfig = EncoderConfig()
    pretrain: Annotated[PretrainSection | None, Field(description="null: from scratch")]
    pretrain_grid: Annotated[CubeGrid | None, Field(description="of the pre-training's clips; null: as grid")] = None
    weights: Annotated[ImportedWeights | None, Field(description="instead of a pre-training")] = None
    finetune: FinetuneConfig
    evaluate: EvaluateConfig = EvaluateConfig()
    instead: Alternatives = Alternatives()

    @property
    def image_grid(self) -> CubeGrid:
        """The geometry of single frames: for pre-training on images."""
        return self.grid.model_copy(update={"num_frames": 1, "tubelet_frames": 1})

    def runs(self) -> tuple[Run, ...]:
        """Return the runs of this arm, parents first; ConfigError names every value that does not fit."""
        try:
            parent = None
            if self.pretrain is not None:
                parent = PretrainRun(grid=self.pretrain_grid or self.grid, encoder=self.encoder, pretrain=self.pretrain)
            child = FinetuneRun(grid=self.grid, encoder=self.encoder, finetune=self.finetune, parent=parent, weights=self.weights)
            runs: tuple[Run, ...] = (child, EvaluateRun(evaluate=self.evaluate, parent=child))
        except ValidationError as error:
            raise ConfigError(_explain(error, None)) from None
        return (parent, *runs) if parent else runs

    def replace(self, settings: Mapping[str, Any]) -> "Recipe":
        """Return a copy with dotted fields set together, so that values which only fit as a pair can change.

        >>> recipe.replace({"pretrain.mask.kind": "frame", "pretrain.mask.ratio": 0.875})  # doctest: +SKIP
        """
        values = self.model_dump()
        for path, value in settings.items():
            _set(values, path, value.model_dump() if isinstance(value, BaseModel) else value)
        return validate(Recipe, values)

    def with_seed(self, seed: int) -> "Recipe":
        """Return the replicate `seed`: the same for pre-training and fine-tuning, so that arms are paired by it.

        ConfigError unless it is from 0 to 2**32 - 1.
        """
        if not 0 <= seed < 2**32:
            raise ConfigError(f"seed {seed}; allowed: 0 to {2**32 - 1}")
        sections = {"finetune": self.finetune, "pretrain": self.pretrain}
        seeded = {name: part and part.model_copy(update={"seed": seed}) for name, part in sections.items()}
        return self.model_copy(update=seeded)


def validate(kind: type[C], values: Any, where: str = "") -> C:
    """Build `kind` from plain values; ConfigError names each bad key or value, what is allowed and the near word."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error, kind, where)) from None


def load_run(text: str | bytes, where: str) -> Run:
    """Read a run from the JSON text of its config; ConfigError with `where` (file) in the message."""
    try:
        return _RUN.validate_json(text)
    except ValidationError as error:
        raise ConfigError(_explain(error, None, where)) from None


def parse_setting(text: str) -> tuple[str, Any]:
    """Read `path=value` of `--set`; the value is JSON (0.9, true, null, [1, 0.5]) or else a plain string."""
    path, equals, value = text.partition("=")
    if not (path and equals):
        raise ConfigError(f"--set {text!r}: expected path=value, for example pretrain.mask.ratio=0.9")
    try:
        parsed = json.loads(value)
    except json.JSONDecodeError:
        parsed = value
    return path.strip(), tuple(parsed) if isinstance(parsed, list) else parsed


def leaves(config: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Return {dotted path: value} for every leaf field of a config, parents of runs included."""
    found: dict[str, Any] = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        path = f"{prefix}{name}"
        found |= leaves(value, f"{path}.") if isinstance(value, BaseModel) else {path: value}
    return found


def _set(values: dict[str, Any], path: str, value: Any) -> None:
    *sections, last = path.split(".")
    here: Any = values
    for depth, key in enumerate([*sections, last]):
        done = ".".join(path.split(".")[:depth]) or "the recipe"
        if here is None:
            raise ConfigError(f"{path}: {done} is null, so {key!r} cannot be set in it")
        if not isinstance(here, dict):
            raise ConfigError(f"{path}: {done} = {here!r} is a value, not a section")
        if key not in here:
            raise ConfigError(f"{path}: {done} has no field {key!r}{_instead_of(path, depth, here)}")
        if depth < len(sections):
            here = here[key]
    here[last] = value


def _instead_of(path: str, depth: int, here: Mapping[str, Any]) -> str:
    """Return what to type for a path whose part at `depth` is no field of the section `here`: paths below that end as it does."""
    done, typed = path.split(".")[:depth], path.split(".")[depth:]
    if not done and typed[0] == "runtime":
        return "; it says where and how fast, so it stands in a profile's [runtime]: see --profile"
    found = [below for below in _paths(here) if below[-len(typed) :] == typed]
    found = [below for below in found if below[0] != "instead"] or found
    if not found:
        return near(typed[0], here)
    return f". Did you mean {' or '.join('.'.join([*done, *below]) for below in found)}? Allowed: {', '.join(here)}"


def _paths(section: Mapping[str, Any]) -> Iterator[list[str]]:
    for key, value in section.items():
        yield [key]
        if isinstance(value, Mapping):
            yield from ([key, *below] for below in _paths(value))


def _explain(error: ValidationError, kind: type[BaseModel] | None, where: str = "") -> str:
    lines = []
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"] if part not in METHODS)
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            *_, key = item["loc"]
            message = f"unknown key{near(str(key), _fields_at(kind, item['loc'][:-1]))}"
        elif item["type"] != "value_error":
            path = f"{path} = {item['input']!r}"
        lines.append(f"{path}: {message}" if path else message)
    prefix = f"{where}: " if where else ""
    return prefix + "; ".join(lines)


def _fields_at(kind: type[BaseModel] | None, loc: tuple[str | int, ...]) -> list[str]:
    """Return the field names of the models at `loc` below `kind`; empty where the annotation does not tell."""
    kinds = [kind] if kind else []
    for part in loc:
        below = [m for k in kinds if part in k.model_fields for m in _models(k.model_fields[str(part)].annotation)]
        # What no model has as a field is the tag of a union, the default of the field that tells its members apart; or a key.
        tagged = [k for k in kinds if any(field.default == part for field in k.model_fields.values())]
        kinds = below or tagged or kinds
    return list(dict.fromkeys(name for k in kinds for name in k.model_fields))


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that an annotation allows, those inside unions and Annotated too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
