"""What the commands share: their options, and from them the plan and the store."""

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.paper import check_row
from sweeps import registry
from sweeps.scales import DEFAULT, PRESETS
from vmae.errors import ConfigError, ResultsError, RunDirError, near
from vmae.files import default_root
from vmae.recipe import load_run, parse_setting
from vmae.runs import Store
from vmae.study import Cell, Plan, Sweep, make_plan

SCALES = ", ".join(PRESETS)
Name = Annotated[str, typer.Argument(help="A sweep; `list` shows them.")]
Root = Annotated[Path | None, typer.Option("--runs", help="Where runs lie. Default: $VMAE_RUNS, or ./runs")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override of the base recipe, for example finetune.optim.epochs=5.")]
Seeds = Annotated[str | None, typer.Option(help="Instead of the sweep's own, for example 0,1,2 or 0-9.")]
Preset = Annotated[str | None, typer.Option("--preset", help=f"The scale: {SCALES}. Default: the sweep's own, mostly {DEFAULT}.")]
ProfileName = Annotated[str, typer.Option("--profile", help="Where to run: a file of slurm/profiles/, or the path of a .toml.")]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only", help="Only runs that fit, for example stage=pretrain; keys: stage, arm, dataset, seed; may be repeated."
    ),
]
MAX_SEEDS = 1000
FACTS = ("stage", "arm", "dataset", "seed")


def plan_of(name: str, sets: list[str] | None, seeds: str | None, preset: str | None = None) -> Plan:
    """Return the checked plan of a sweep; ConfigError for anything in it that no run could use."""
    sweep = registry.load(name, preset)
    if seeds is not None:
        sweep = replace(sweep, seeds=parse_seeds(seeds))
    made = make_plan(sweep, parse_settings(sets or ()))
    check_paper_rows(sweep)
    return made


def declared_or_stored(store: Store, name: str, sets: list[str] | None, seeds: str | None, preset: str | None) -> Plan:
    """Return the plan of a declared sweep; of any other the plan that its last submit left in the store.

    The others are sweeps whose declaration is gone, and the rounds of searches. ConfigError for options that would change a
    stored plan, and for a name that is neither declared nor stored.
    """
    if registry.is_declared(name) or name not in store.sweeps():
        return plan_of(name, sets, seeds, preset)
    if sets or seeds is not None or preset is not None:
        raise ConfigError(f"{name!r} is not declared, only its last plan is in the store; leave out --set, --seeds and --preset")
    return stored_plan(store, name)


def stored_plan(store: Store, name: str) -> Plan:
    """Return the plan that the last submit of `name` left in the store; it knows no ablations and no recipes."""
    read, file = store.read_plan(name), store.plan_file(name)
    cells = tuple(
        Cell(
            ablation=cell["ablation"],
            arm=cell["arm"],
            dataset=cell["dataset"],
            cell_id=cell["cell_id"],
            settings=cell["settings"],
            replicates={replicate["seed"]: replicate["runs"] for replicate in cell["replicates"]},
        )
        for cell in read["cells"]
    )
    return Plan(
        sweep=Sweep(name, read["purpose"], (), {}, tuple(read["seeds"]), preset=read["preset"]),
        cells=cells,
        runs={id_: load_run(json.dumps(run["config"]).encode(), f"{file}, run {id_}") for id_, run in read["runs"].items()},
        num_declared=sum(len(runs) for cell in cells for runs in cell.replicates.values()),
        parents={id_: run["parent"] for id_, run in read["runs"].items() if run["parent"] is not None},
    )


def check_paper_rows(sweep: Sweep) -> None:
    """Refuse an arm whose paper row nobody wrote down, before its runs are paid for; ConfigError with the near word."""
    for ablation in sweep.ablations:
        for arm in ablation.arms:
            try:
                if arm.paper:
                    check_row(arm.paper.table, arm.paper.case)
            except ResultsError as error:
                raise ConfigError(f"ablation {ablation.name}, arm {arm.name!r}: {error}") from None


def parse_settings(sets: Iterable[str]) -> dict[str, Any]:
    """Return {dotted path: value} of all `--set`; ConfigError for a path that is set twice."""
    settings: dict[str, Any] = {}
    for path, value in map(parse_setting, sets):
        if path in settings:
            raise ConfigError(f"--set {path} twice, to {settings[path]!r} and to {value!r}; allowed: once")
        settings[path] = value
    return settings


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds of 0,1,2 or 0-9 or both mixed.

    >>> parse_seeds("0,4-6")
    (0, 4, 5, 6)
    """
    seeds: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            several = range(int(first), min(int(last if dash else first), int(first) + MAX_SEEDS) + 1)
            if not several:
                raise ValueError
            seeds += several
    except ValueError:
        raise ConfigError(
            f"--seeds {text!r}: expected integers or ranges separated by commas, for example 0,1,2 or 0-9"
        ) from None
    if len(seeds) > MAX_SEEDS:
        raise ConfigError(f"--seeds {text!r}: allowed are {MAX_SEEDS} at most")
    return tuple(seeds)


def typed(name: str, **options: Any) -> str:
    """Return a sweep and options as they are typed; of several values each has its option, and None has none.

    >>> typed("smoke", set=["finetune.optim.epochs=5"], seeds=None, max_running=2)
    'smoke --set finetune.optim.epochs=5 --max-running 2'
    """
    words = [name]
    for option, value in options.items():
        for each in value if isinstance(value, list) else [] if value is None else [value]:
            words += [f"--{option.replace('_', '-')}", shlex.quote(str(each))]
    return " ".join(words)


def store_of(runs: Path | None) -> Store:
    """Return the store at `runs`, or where the environment says; RunDirError where something other than a folder stands there."""
    root = (runs or default_root()).absolute()
    if not root.is_dir() and root.exists():
        raise RunDirError(f"{root} is no folder; runs lie in one, by default $VMAE_RUNS, or ./runs")
    return Store(root)


def root_option(store: Store) -> Path | None:
    """Return what --runs must say for a command to find the store, None where it finds it by itself."""
    return None if store.root == default_root().absolute() else store.root


def typed_plan(plan: Mapping[str, Any], **options: Any) -> str:
    """Return the sweep of a stored plan with the options that ask for that plan, and with further ones, as they are typed."""
    settings = []
    for path, value in plan.get("set", {}).items():
        text = f"{path}={value}"
        settings.append(text if parse_setting(text) == (path, value) else f"{path}={json.dumps(value)}")
    is_own = plan["seeds"] == list(registry.load(plan["sweep"]).seeds)
    seeds = None if is_own else ",".join(map(str, plan["seeds"]))
    return typed(plan["sweep"], set=settings, seeds=seeds, **options)


def parents_of(made: Plan) -> dict[str, str | None]:
    """Return {run id: parent or None}, parents first."""
    return {id_: made.parents.get(id_) for id_ in made.runs}


def all_parents(store: Store, without: str | None = None) -> dict[str, str | None]:
    """Return {run id: parent or None}, parents first, of every plan in the store but that of the sweep `without`."""
    parents: dict[str, str | None] = {}
    for sweep in store.sweeps():
        if sweep != without:
            parents |= {id_: run["parent"] for id_, run in store.read_plan(sweep)["runs"].items()}
    return parents


def narrowed(made: Plan, only: list[str] | None) -> Plan:
    """Return the part of a plan that `only` names, of its cells and seeds those with runs in it; ConfigError as of `selected`."""
    chosen = selected(made, only)
    parts = []
    for cell in made.cells:
        kept = {seed: {stage: id_ for stage, id_ in runs.items() if id_ in chosen} for seed, runs in cell.replicates.items()}
        if any(kept.values()):
            parts.append(replace(cell, replicates={seed: runs for seed, runs in kept.items() if runs}))
    seeds = tuple(seed for seed in made.sweep.seeds if any(seed in part.replicates for part in parts))
    return replace(
        made,
        sweep=replace(made.sweep, seeds=seeds),
        cells=tuple(parts),
        runs={id_: run for id_, run in made.runs.items() if id_ in chosen},
        num_declared=sum(len(runs) for part in parts for runs in part.replicates.values()),
    )


def selected(made: Plan, only: list[str] | None) -> set[str]:
    """Return the runs that `only` names: for each key one of its values. ConfigError for unknown keys and values of nothing."""
    facts: dict[str, list[dict[str, str]]] = {}
    for cell in made.cells:
        for seed, runs in cell.replicates.items():
            for stage, id_ in runs.items():
                described = {"stage": stage, "arm": cell.arm, "dataset": cell.dataset, "seed": str(seed)}
                facts.setdefault(id_, []).append(described)
    wanted: dict[str, set[str]] = {}
    for text in only or ():
        key, separator, value = text.partition("=")
        if not separator:
            raise ConfigError(f"--only {text!r}: expected key=value, for example stage=pretrain; keys: {', '.join(FACTS)}")
        if key not in FACTS:
            raise ConfigError(f"--only {text!r}: no key {key!r}{near(key, FACTS)}")
        allowed = sorted({described[key] for all_ in facts.values() for described in all_})
        if value not in allowed:
            raise ConfigError(f"--only {text!r}: nothing has {key} {value!r}{near(value, allowed)}")
        wanted.setdefault(key, set()).add(value)
    return {
        id_
        for id_, all_ in facts.items()
        if any(all(described[key] in values for key, values in wanted.items()) for described in all_)
    }
