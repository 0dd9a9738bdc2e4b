"""Winners of the search lr_from_scratch beside the shared recipe, with fresh seeds; written by `search export`.

Selected by top1 on holdout, 8 trials per cell, sampler grid; 2026-11-26T04:29:30Z.
Code of the winning runs: 099cb877426201fd936fccf8ed1af9e6e1ca8811, ae3f1b6228bec844f5f287434746fd4e02d113d1.
"""

from sweeps.searching.winner import tuned_sweep

WINNERS = [
    {
        "dataset": "digits-motion",
        "arm": "scratch",
        "shared": {"pretrain": None, "finetune.optim.epochs": 16},
        "tuned": {"finetune.optim.base_lr": 0.0057},
        "trial": 4,
        "holdout": 69.58333333333333,
        "run": "e922909c20e1d8dd",
    },
    {
        "dataset": "digits-motion",
        "arm": "VideoMAE",
        "shared": {},
        "tuned": {"finetune.optim.base_lr": 0.02},
        "trial": 0,
        "holdout": 72.91666666666666,
        "run": "fc0e7779688eb147",
    },
]
SWEEP = tuned_sweep(__doc__, "tuned_lr_from_scratch", "quick", (10, 11, 12), WINNERS)
