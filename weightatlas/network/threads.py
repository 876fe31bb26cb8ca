"""How many processors torch uses."""

from __future__ import annotations

import torch


def use_threads(count: int) -> None:
    """Makes torch compute with so many threads in this process; 0 leaves it as it is."""
    if count:
        torch.set_num_threads(count)
