"""Frozen results with named axes, units and provenance. Stages of weightatlas meet here and nowhere else."""

from .bands import Banding as Banding
from .bands import BandRow as BandRow
from .base import Provenance as Provenance
from .base import Record as Record
from .base import atomic_write as atomic_write
from .factors import Factors as Factors
from .layers import Layer as Layer
from .layers import LayerTable as LayerTable
from .layers import ReceptiveField as ReceptiveField
from .layers import checked_units as checked_units
from .weights import Replaced as Replaced
from .weights import Weights as Weights
