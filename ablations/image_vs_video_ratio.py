"""Does video bear a higher masking ratio than images, as its redundancy in time suggests?

One-frame clips make VideoMAE an image MAE of the same encoder; both are fine-tuned on clips.

Expected: images are best near 75 % and fall at 90 % (He et al. 2022, figure 5, fine-tuned: 84.9 at 75 %, 83.0 at 90 %, on
ImageNet), video is best at 90 % and close at 95 %.

Cost: eight pre-trainings, four of them on one frame, and eight fine-tunings per data set and seed.
"""

from vmae.arms import Arm, As, PaperRow
from vmae.study import Ablation

RATIOS = (0.5, 0.6, 0.75, 0.9)
IMAGES = {"pretrain_grid": As("image_grid"), "pretrain.mask.kind": "random"}

ABLATION = Ablation(
    name="image_vs_video_ratio",
    doc=__doc__,
    paper="section 3.2; He et al. 2022, figure 5",
    arms=(
        *(Arm(f"video {r:g}", {"pretrain.mask.ratio": r}, PaperRow("vmae.fig_mask_ratio", f"tube/{100 * r:g}")) for r in RATIOS),
        *(
            Arm(
                f"image {r:g}",
                IMAGES | {"pretrain.mask.ratio": r},
                PaperRow("mae.fig5", f"random/{100 * r:g}", "ft_top1", "IN-1K"),
            )
            for r in RATIOS
        ),
    ),
    baseline="video 0.9",
    datasets=("SSV2", "K400"),
)
