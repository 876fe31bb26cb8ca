"""The captured graph of a network: the nodes of its layers, and the part between two of them."""

from .capture import capture as capture
from .channels import groups_of as groups_of
from .layers import layer_graph as layer_graph
from .nodes import Graph as Graph
from .nodes import batch_leads as batch_leads
from .nodes import operator_of as operator_of
from .nodes import shape_of as shape_of
