"""Should the loss count only hidden cubes, or visible ones too?

Expected: hidden only; on images the loss over all pixels is about 0.5 points worse (He et al. 2022, a footnote). The paper
takes it over.

Cost: two pre-trainings and two fine-tunings per data set and seed.
"""

from vmae.arms import Arm
from vmae.study import Ablation

ABLATION = Ablation(
    name="loss_region",
    doc=__doc__,
    paper="section 3.1",
    arms=(Arm("hidden", {"pretrain.loss_region": "hidden"}), Arm("all", {"pretrain.loss_region": "all"})),
    baseline="hidden",
    datasets=("SSV2", "K400"),
)
