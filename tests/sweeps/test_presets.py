"""Every declaration at every scale: what is planned is pinned, what is relative resolves, what cannot run says why."""

from collections import Counter

from sweeps import registry
from vmae.study import make_plan

# Cells, and distinct runs per seed: (cells, pretrain, finetune). A change here is a change of what the sweeps ask.
COUNTS = {}


def counts(name, preset):
    plan = make_plan(registry.load(name, preset))
    stages = Counter(run.stage for run in plan.runs.values())
    seeds = len(plan.sweep.seeds)
    assert stages["finetune"] == stages["evaluate"]
    return len(plan.cells), stages["pretrain"] / seeds, stages["finetune"] / seeds
