"""The paper's Tables 2, 3 and 4: methods on four data sets, cost against accuracy, transfer from Kinetics-400."""

from ablations import efficiency, methods, transfer
from sweeps.declared import Declaration

SWEEP = Declaration(name="paper_tables234", doc=__doc__, ablations=(methods.ABLATION, efficiency.ABLATION, transfer.ABLATION))
