"""What should be reconstructed: the input's own frames, denser ones, or the centre frame alone?

With T frames at stride tau, the paper finds (Table 1c): the input's own frames are good everywhere (69.6
on SSv2, 80.0 on K400), the centre frame is far worse on SSv2 (63.0; 79.3 on K400), half the stride for both loses 0.7 and
0.2, twice as many target frames at half the stride gives 69.2 and 80.1.

Expected: the input's own frames, or ones twice as dense, far above the centre frame on motion-heavy videos.

Cost: four pre-trainings and four fine-tunings per data set and seed. On the embedded videos, 20 frames long, clips of all
arms have 8 frames at stride 2, so that half the stride exists.
"""

from typing import Any

from vmae.arms import Arm, PaperRow, Times
from vmae.study import Ablation

EMBEDDED = ("proxy", "quick", "tiny")
SHORT = {"grid.num_frames": 8, "pretrain.clip.frame_stride": 2}


def _arms(name: str, case: str, settings: dict[str, Any], short: dict[str, Any]) -> tuple[Arm, ...]:
    row = PaperRow("vmae.t1c", case)
    return Arm(name, settings, row, ("paper",)), Arm(name, SHORT | short, row, EMBEDDED)


CENTRE = {"pretrain.target_frames": "centre"}
DENSE = {"pretrain.target_frames": "double_rate"}
HALF = "pretrain.clip.frame_stride"

ABLATION = Ablation(
    name="reconstruction_target",
    doc=__doc__,
    paper="Table 1c",
    arms=(
        *_arms("centre frame", "input=Tx_tau;target=center", CENTRE, CENTRE),
        *_arms("T x tau/2 for both", "input=Tx_tau/2;target=Tx_tau/2", {HALF: Times(0.5)}, {HALF: 1}),
        *_arms("T x tau", "input=Tx_tau;target=Tx_tau", {}, {}),
        *_arms("2T x tau/2", "input=Tx_tau;target=2Tx_tau/2", DENSE, DENSE),
    ),
    baseline="T x tau",
    datasets=("SSV2", "K400"),
)
