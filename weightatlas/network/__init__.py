"""Opening networks: a module with its input specification, its layers, and what they can see."""

from ..models.files.memory import memory_free as memory_free
from .addresses import place as place
from .addresses import unit_place as unit_place
from .images import from_input as from_input
from .loading import load as load
from .network import Network as Network
from .network import package_version as package_version
from .observe import INPUT as INPUT
from .observe import LABELS as LABELS
from .observe import Call as Call
from .observe import Observation as Observation
from .observe import evaluating as evaluating
from .observe import sample_input as sample_input
from .receptive import tensors_in as tensors_in
from .resources import keep_memory as keep_memory
from .resources import spare_threads as spare_threads
from .resources import use_threads as use_threads
