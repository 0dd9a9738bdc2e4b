"""How many frames should a cube span?

Expected: the paper takes two and does not vary it; one doubles the cubes and quadruples the cost of attention, four
halves the cubes.

Cost: three pre-trainings and three fine-tunings per data set and seed, those of one frame at more than twice the cost.
"""

from vmae.arms import Arm
from vmae.study import Ablation

ABLATION = Ablation(
    name="tubelet_size",
    doc=__doc__,
    paper="section 3.3",
    arms=tuple(Arm(f"{n} frame{'s' if n > 1 else ''}", {"grid.tubelet_frames": n}) for n in (1, 2, 4)),
    baseline="2 frames",
    datasets=("SSV2", "K400"),
)
