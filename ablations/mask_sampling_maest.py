"""Why is tube ahead of random under VideoMAE's recipe, and random ahead of tube under mae_st's?

Expected: each paper's order under its own recipe, on K400 at 90 %: tube 80.0 and random 79.5 (VideoMAE, Table 1b, ViT-B),
random 84.4 and tube 83.5 (mae_st, arXiv:2205.09113, Table 2, ViT-L). Of what sets the recipes apart, the arms of mae_st
take what fits any scale: targets normalised per cube, learned positions, wider crops with flips, clipped gradients. The
rest stays VideoMAE's: model size, no class token, decoder, all frames of a cube as its target (mae_st: one of two), one clip
per video (mae_st: four), batch, learning rate, views.

Cost: four pre-trainings and four fine-tunings per data set and seed.
"""

from vmae.arms import Arm, PaperRow
from vmae.study import Ablation

VIDEOMAE = {"pretrain.target": "normalised"}
MAEST = {
    "pretrain.target": "normalised_pooled",
    "encoder.positions": "learned",
    "pretrain.decoder.positions": "learned",
    "pretrain.clip.crop_scales": (1.0, 0.9, 0.8, 0.71),  # areas of 1 to 0.5
    "pretrain.clip.hflip": True,
    "pretrain.optim.grad_clip_norm": 0.02,
}
MASKS = {kind: {"pretrain.mask.kind": kind, "pretrain.mask.ratio": 0.9} for kind in ("tube", "random")}

ABLATION = Ablation(
    name="mask_sampling_maest",
    doc=__doc__,
    paper="Table 1b; mae_st, Table 2a",
    arms=(
        Arm("VideoMAE, tube", VIDEOMAE | MASKS["tube"], PaperRow("vmae.t1b", "tube/90")),
        Arm("VideoMAE, random", VIDEOMAE | MASKS["random"], PaperRow("vmae.t1b", "random/90")),
        Arm("mae_st, tube", MAEST | MASKS["tube"], PaperRow("maest.t2", "mask=space-only(tube)/90")),
        Arm("mae_st, random", MAEST | MASKS["random"], PaperRow("maest.t2", "mask=agnostic(random)/90")),
    ),
    baseline="VideoMAE, tube",
    datasets=("K400",),
)
