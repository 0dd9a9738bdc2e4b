"""What tests share besides fixtures: the checkout's root, running a chain in this process, a clean environment."""

import os
import socket
from pathlib import Path

from vmae.identity import run_id
from vmae.job import work
from vmae.recipe import Recipe
from vmae.results import Result
from vmae.runs import Store
from vmae.runtime import RuntimeConfig

ROOT = Path(__file__).parent.parent


def run_chain(store: Store, recipe: Recipe, runtime: RuntimeConfig, upto: str = "evaluate") -> dict[str, Result]:
    """Run a recipe's stages in this process, up to and including `upto`."""
    results = {}
    for run in recipe.runs():
        place = store.run(run_id(run))
        place.create(run)
        results[run.stage] = work(place, runtime)
        if run.stage == upto:
            break
    return results


def clean_environment(**more: str) -> dict[str, str]:
    """The environment for a subprocess: this one's, threads limited, nothing of ours set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VMAE_", "MAKE"))}
    return kept | {"OMP_NUM_THREADS": "1"} | more


def free_port() -> int:
    """A local port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
