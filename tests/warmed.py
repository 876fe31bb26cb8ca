"""What a process imports from which workers are forked: whatever the first build of a process has to load is there."""

import atlases
import distributed  # noqa: F401
import torch

import weightatlas as wa
from weightatlas.builder.jobs import running  # noqa: F401

torch.set_num_threads(1)  # a pool of threads would not be there after the fork
wa.layer_graph(atlases.small())
