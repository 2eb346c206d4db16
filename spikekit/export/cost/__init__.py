"""What an exported network costs: cores of a chip, operations, and energy as an estimate with its sources."""

from spikekit.export.cost.arithmetic import Account, account
from spikekit.export.cost.cores import Placement, place
from spikekit.export.cost.energy import CHIPS, CMOS_45NM, EnergyModel
from spikekit.export.cost.targets import LOIHI1, LOIHI2, Limit, Target

__all__ = [
    "CHIPS",
    "CMOS_45NM",
    "LOIHI1",
    "LOIHI2",
    "Account",
    "EnergyModel",
    "Limit",
    "Placement",
    "Target",
    "account",
    "place",
]
