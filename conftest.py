"""What tests and doctests share: the embedded network, whose paths a process follows once."""

from __future__ import annotations

import copy
import gc
from typing import Any

import pytest

import weightatlas as wa

NAME = "efficientnet_lite0"


def pytest_collection_finish() -> None:
    """What was imported and collected stays: the garbage collector need not look through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def lite0() -> wa.Network:
    return wa.load(NAME)


@pytest.fixture
def opened_once(lite0: wa.Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name, the embedded network is that of all tests, as if nothing had been measured on it."""
    load = wa.load

    def again(source: Any, **more: Any) -> wa.Network:
        if source != NAME or more:
            return load(source, **more)
        found = copy.copy(lite0)
        found.measured = None
        return found

    monkeypatch.setattr(wa, "load", again)


@pytest.fixture(autouse=True)
def _doctests_open_once(request: pytest.FixtureRequest) -> None:
    if isinstance(request.node, pytest.DoctestItem):
        request.getfixturevalue("opened_once")
