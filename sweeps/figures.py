"""The paper's figures: masking ratio, data efficiency, schedule; and the ratio on images beside that on videos."""

from ablations import data_size, image_vs_video_ratio, mask_ratio, quality_vs_quantity, schedule
from sweeps.declared import Declaration

SWEEP = Declaration(
    name="figures",
    doc=__doc__,
    ablations=(
        mask_ratio.ABLATION,
        image_vs_video_ratio.ABLATION,
        data_size.ABLATION,
        quality_vs_quantity.ABLATION,
        schedule.ABLATION,
    ),
)
