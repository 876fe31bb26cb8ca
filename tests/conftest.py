"""What several test files share: photos, a browser, settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import shortened
import torch
from browsing import Visit, launched

if "PYTEST_XDIST_WORKER" in os.environ:  # the processes share the cores
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that no process is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def photos() -> dict[str, np.ndarray]:
    """Three photos as uint8 [H, W, 3] of different sizes."""
    from skimage import data

    return {"cat": data.chelsea(), "coffee": data.coffee(), "astronaut": data.astronaut()}


@pytest.fixture
def short_recipes() -> Iterator[None]:
    """Pictures of at most six steps, for tests that compare pictures or look at what stands around them."""
    with shortened.short_recipes():
        yield


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, for the tests of a file: while it is there, no event loop can be begun in the process."""
    with launched() as opened:
        yield opened


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    """Opens pages of a site; whatever went wrong on them fails the test at its end."""
    opened: list[Visit] = []

    def at(origin: str, **more: Any) -> Visit:
        opened.append(Visit(browser, origin, **more))
        return opened[-1]

    yield at
    wrong = [w for v in opened for w in v.wrong]
    for v in opened:
        v.close()
    assert wrong == []


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Problems this small gain nothing from threads, and lose much where other processes are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
