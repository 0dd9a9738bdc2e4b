"""What a run *is*: a hash of everything that is measured, and of nothing about place or machine.

The id is taken over the full resolved config, never over the difference from defaults, so a changed default is a new run and an
explicit default is the same run. Field marks say what does not follow that rule; tests/vmae/golden_ids.json pins the outcome.
"""

import functools
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

SCHEME_VERSION = 1
ID_DIGITS = 16  # 64 bits: a collision among 10,000 runs has probability 3e-12


@dataclass(frozen=True)
class NotIdentity:
    """Mark: the field says where or how fast, not what; it is recorded but never hashed."""


@dataclass(frozen=True)
class Seed:
    """Mark: part of the run id, not of the cell id (runs that differ only here are replicates)."""


@dataclass(frozen=True)
class Parent:
    """Mark: the field holds the run this one starts from; its id stands in for it."""


@dataclass(frozen=True)
class IdentityName:
    """Mark: the field was renamed; it is hashed under its old `name`, so old ids stay valid."""

    name: str


@dataclass(frozen=True)
class OmitWhen:
    """Mark: the field was added later; at this neutral `value` it is left out, so old ids stay valid."""

    value: Any


@functools.cache
def mark(config: type[BaseModel], field: str, kind: type) -> Any:
    """Return the mark of class `kind` on `field`, or None."""
    return next((m for m in config.model_fields[field].metadata if isinstance(m, kind)), None)


def payload(config: BaseModel, *, with_seeds: bool = True) -> dict[str, Any]:
    """Return what is hashed of `config`: plain nested values, marks applied.

    Args:
        config: any configuration; a field marked `Parent` is replaced by that run's id (or cell id).
        with_seeds: False leaves every seed out, also the parents', which gives the cell's payload.
    """
    kind = type(config)
    values: dict[str, Any] = {}
    for name in kind.model_fields:
        value = getattr(config, name)
        added = mark(kind, name, OmitWhen)
        if (
            mark(kind, name, NotIdentity)
            or (mark(kind, name, Seed) and not with_seeds)
            or (added is not None and added.value == value)
        ):
            continue
        renamed = mark(kind, name, IdentityName)
        if mark(kind, name, Parent) and value is not None:
            value = digest(value, with_seeds=with_seeds)
        elif isinstance(value, BaseModel):
            value = payload(value, with_seeds=with_seeds)
        values[renamed.name if renamed else name] = value
    return values


def canonical(values: dict[str, Any]) -> str:
    """Return the one JSON text of `values`: sorted keys, no spaces, ascii, no NaN."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(run: BaseModel, *, with_seeds: bool = True) -> str:
    """Return the first 16 hex digits of the sha256 over the canonical payload of `run`.

    `run.algo` is the version of the stage's mathematics, of a pre-training its method's: raising it gives every such run, and its
    children, a new id.
    """
    text = canonical({"scheme": SCHEME_VERSION, "algo": getattr(run, "algo", 1), "config": payload(run, with_seeds=with_seeds)})
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]


def run_id(run: BaseModel) -> str:
    """Return the id of a run: config, seeds and ancestors."""
    return digest(run)


def cell_id(run: BaseModel) -> str:
    """Return the id of a cell: the run without any seed, its own or an ancestor's."""
    return digest(run, with_seeds=False)
