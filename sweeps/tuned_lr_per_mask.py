"""Winners of the search lr_per_mask beside the shared recipe, with fresh seeds; written by `search export`.

Selected by top1 on holdout, 8 trials per cell, sampler grid; 2026-11-26T04:29:25Z.
Code of the winning runs: 099cb877426201fd936fccf8ed1af9e6e1ca8811.
"""

from sweeps.searching.winner import tuned_sweep

WINNERS = [
    {
        "dataset": "digits-motion",
        "arm": "tube 0.75",
        "shared": {"pretrain.mask.kind": "tube", "pretrain.mask.ratio": 0.75},
        "tuned": {"finetune.optim.base_lr": 0.02},
        "trial": 0,
        "holdout": 72.91666666666666,
        "run": "fc0e7779688eb147",
    },
    {
        "dataset": "digits-motion",
        "arm": "tube 0.9",
        "shared": {"pretrain.mask.kind": "tube", "pretrain.mask.ratio": 0.9},
        "tuned": {"finetune.optim.base_lr": 0.029},
        "trial": 6,
        "holdout": 65.41666666666667,
        "run": "e4e6e52f816ea71c",
    },
    {
        "dataset": "digits-motion",
        "arm": "random 0.9",
        "shared": {"pretrain.mask.kind": "random", "pretrain.mask.ratio": 0.9},
        "tuned": {"finetune.optim.base_lr": 0.013},
        "trial": 5,
        "holdout": 56.666666666666664,
        "run": "a5940fb5a9ce6851",
    },
    {
        "dataset": "digits-motion",
        "arm": "frame 0.875",
        "shared": {"pretrain.mask.kind": "frame", "pretrain.mask.ratio": 0.875},
        "tuned": {"finetune.optim.base_lr": 0.02},
        "trial": 0,
        "holdout": 68.75,
        "run": "5561ecf4eb84802d",
    },
]
SWEEP = tuned_sweep(__doc__, "tuned_lr_per_mask", "quick", (10, 11, 12), WINNERS)
