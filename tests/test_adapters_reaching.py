"""Whether the hub is there at all, asked quickly, and somebody else's words in a line of ours."""

from __future__ import annotations

import socket
import urllib.request

import pytest

from weightatlas.models.adapters import reaching
from weightatlas.models.adapters.reaching import unreachable_hub
from weightatlas.models.quoting import named, quoted

constants = pytest.importorskip("huggingface_hub.constants")


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    """Without a proxy and allowed to ask."""
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


def test_a_host_that_answers_is_there(server, monkeypatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server}/mirror")
    assert unreachable_hub() == ""


def test_one_that_refuses_is_not(server, monkeypatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the port of discard, which nobody serves
    assert unreachable_hub() == "http://127.0.0.1:9 cannot be reached: Connection refused"


def test_nor_is_one_without_an_address(monkeypatch) -> None:
    asked = []

    def unknown(place, patience):
        asked.append((place, patience))
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(reaching.socket, "create_connection", unknown)
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.example")
    assert unreachable_hub() == "https://hub.example cannot be reached: Name or service not known"
    assert asked == [(("hub.example", 443), reaching.PATIENCE)]
    monkeypatch.setattr(urllib.request, "getproxies", lambda: {"no": "localhost"})  # what goes past a proxy is none
    assert unreachable_hub()


@pytest.mark.parametrize("why", ["slow", "proxy", "offline", "no port"])
def test_what_cannot_be_told_quickly_is_left_to_the_library(monkeypatch, why) -> None:
    def asked(place, patience):
        if why != "slow":
            pytest.fail("nobody is asked")
        raise TimeoutError("timed out")

    monkeypatch.setattr(reaching.socket, "create_connection", asked)
    if why == "proxy":
        monkeypatch.setattr(urllib.request, "getproxies", lambda: {"https": "http://proxy.example:3128"})
    if why == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    if why == "no port":
        monkeypatch.setattr(constants, "ENDPOINT", "https://hub.example:none")
    assert unreachable_hub() == ""


def test_words_of_others_are_one_line_that_can_only_be_read() -> None:
    assert quoted("No\x1b[31mway\r\n\tat all\x00 \u202edrawkcab") == r"No\x1b[31mway at all\x00 \u202edrawkcab"
    assert quoted("x" * 500) == "x" * 200 + " …"
    assert quoted(" \n") == ""
    assert named(ValueError("a\nb")) == "ValueError: a b"
    assert named(ValueError()) == "ValueError"
