"""What this process may use: processors, and memory that it has freed."""

from __future__ import annotations

import contextlib
import ctypes
import os

import torch

#: In C's allocator (glibc's ``mallopt``): sizes from which memory is returned to the system when it is freed.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LEAST, _MOST = 32 << 20, 256 << 20  # bytes; the first is the largest that glibc takes


def use_threads(count: int) -> None:
    """Makes torch compute with so many threads in this process; 0 leaves it as it is."""
    if count:
        torch.set_num_threads(count)


def spare_threads() -> int:
    """Processors for torch beside a server and a browser, to which one is left; what the environment says holds."""
    if "OMP_NUM_THREADS" in os.environ:
        return 0
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, count - 1)


def keep_memory() -> None:
    """Makes this process keep what it frees for its next tensors, where its environment says that it shall not.

    dask starts its workers with ``MALLOC_TRIM_THRESHOLD_=65536``. Then every tensor's memory is asked of the system
    anew and filled with zeros page by page, which makes pictures three times as slow. Where the allocator is not
    glibc's, or the variable is not set, nothing happens.
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ:
        with contextlib.suppress(OSError, AttributeError, TypeError):
            allocator = ctypes.CDLL(None).mallopt
            allocator(_MMAP_THRESHOLD, _LEAST)
            allocator(_TRIM_THRESHOLD, _MOST)
