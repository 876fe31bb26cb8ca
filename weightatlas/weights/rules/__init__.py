"""One rule per operator: from the kernel on its output to the kernels on its inputs.

A rule is a function of one :class:`~weightatlas.weights.step.Step` and gives pairs (input node, kernel). It is
found by the operator's name without overload (``conv2d``); :func:`register_rule` adds to the table.
"""

from . import arithmetic as arithmetic
from . import joins as joins
from . import linear as linear
from . import norms as norms
from . import parts as parts
from . import pools as pools
from . import resampling as resampling
from . import shapes as shapes
from .table import register_rule as register_rule
from .table import rule_for as rule_for
