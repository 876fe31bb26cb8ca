"""Frozen results with named axes, units and provenance. Stages of weightatlas meet here and nowhere else."""

from .agreeing import Agreement as Agreement
from .agreeing import agreement as agreement
from .bands import Banding as Banding
from .bands import BandRow as BandRow
from .base import Provenance as Provenance
from .base import Record as Record
from .base import atomic_write as atomic_write
from .base import check_writable as check_writable
from .connections import By as By
from .connections import Connections as Connections
from .factors import Factors as Factors
from .features import FeatureImages as FeatureImages
from .gradients import ExpectedGradient as ExpectedGradient
from .graphs import GraphNode as GraphNode
from .graphs import LayerGraph as LayerGraph
from .layers import Layer as Layer
from .layers import LayerTable as LayerTable
from .layers import ReceptiveField as ReceptiveField
from .layers import checked_units as checked_units
from .paths import Hidden as Hidden
from .paths import MiddleUnit as MiddleUnit
from .paths import Paths as Paths
from .replacing import Replaced as Replaced
from .replacing import read_as as read_as
from .statistics import Statistics as Statistics
from .weights import Weights as Weights
