"""Memory that was freed is used again, also where the environment of a process forbids it."""

import os
import subprocess
import sys

import pytest

#: Pages that the system hands out while a tensor of 8 MiB is made and freed, again and again.
FAULTS = """
import resource, sys, torch
from weightatlas.network import keep_memory

def faults():
    for _ in range(3):
        torch.ones(2 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(2 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
keep_memory()
print(first, faults())
"""


def faults(**environment):
    own = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}  # which dask may leave
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], env={**own, **environment}, capture_output=True, text=True, check=True
    )
    return [int(word) for word in done.stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="about glibc's allocator")
def test_freed_memory_is_used_again_where_dask_forbids_it():
    without, kept = faults(MALLOC_TRIM_THRESHOLD_="65536")
    assert without > 10_000  # 2,048 pages each time
    assert kept < without / 5  # now and then one of the twenty is put elsewhere


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="about glibc's allocator")
def test_elsewhere_the_allocator_is_left_alone():
    before, after = faults(MALLOC_MMAP_THRESHOLD_="131072")
    assert min(before, after) > 10_000
