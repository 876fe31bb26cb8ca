"""A hundred readers at once while the builder is at work: none is refused."""

import http.client
import random
import threading
import time

import pytest
from explorers import Command, Ear

import weightatlas as wa

READERS, SECONDS = 100, 4.0


@pytest.mark.slow
def test_a_hundred_readers_while_a_build_runs(lite0, tmp_path):
    wa.build(
        lite0,
        tmp_path / "atlas",
        layers=["blocks.0.0", "blocks.1.0"],
        units=range(4),
        recipes=["quick"],
        only="weights",
    )
    paths = [
        p.relative_to(tmp_path).as_posix() for p in (tmp_path / "atlas").rglob("*") if p.is_file() and p.name[0] != "."
    ]
    words = ("--layers", "blocks.1.0", "--recipes", "max", "--no-browser", "--port", "0")
    with Command("open", tmp_path / "atlas", *words) as command:
        command.address()
        ear = Ear(command.port)
        ear.wait("state", lambda s: s["builder"] == "building" and s["done"] < s["of"])
        took, failed, until = [], [], time.monotonic() + SECONDS

        def read(number):
            chosen = random.Random(number)
            connection = http.client.HTTPConnection("127.0.0.1", command.port, timeout=30)
            try:
                while time.monotonic() < until:
                    path = "/" + chosen.choice(["", "site.json", "api/state", *paths])
                    began = time.monotonic()
                    connection.request("GET", path)
                    answer = connection.getresponse()
                    answer.read()
                    took.append(time.monotonic() - began)
                    if answer.status != 200:
                        failed.append((path, answer.status))
            except (OSError, http.client.HTTPException) as error:
                failed.append((number, repr(error)))
            finally:
                connection.close()

        readers = [threading.Thread(target=read, args=(number,)) for number in range(READERS)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        states = [content["builder"] for name, content in ear.heard if name == "state"]
        took.sort()
        at = {share: 1000 * took[int(share / 100 * len(took))] for share in (50, 90, 99)}
        print(
            f"{len(took)} answers, ms: "
            + ", ".join(f"{s} % {t:.0f}" for s, t in at.items())
            + f", most {1000 * took[-1]:.0f}"
        )
        assert failed == []
        assert len(took) > READERS
        assert states[-1] == "building"  # all the while
        ear.close()
        assert command.end()[0] == 0
