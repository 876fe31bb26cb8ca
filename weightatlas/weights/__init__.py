"""Weights as arrays ``[target unit, source unit, y, x]``."""

from .direct import direct_weights as direct_weights
from .ends import checked_device as checked_device
from .expanded import expanded_weights as expanded_weights
from .measuring import as_input as as_input
from .measuring import measure as measure
from .paths import expanded_paths as expanded_paths
from .paths import strongest_middles as strongest_middles
from .rules import register_rule as register_rule
from .sources import behind_functions as behind_functions
from .sources import reads as reads
from .truth import expected_gradient as expected_gradient
from .windows import Window as Window
from .windows import window as window
