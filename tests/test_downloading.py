"""Downloads from a server that behaves and misbehaves: what is kept is the file, whole, or nothing under its name."""

from __future__ import annotations

import errno
import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from misbehaving import Served, serving

from weightatlas.errors import LoadError
from weightatlas.models.downloads import downloading, partial
from weightatlas.models.downloads.downloading import Address, UnavailableError, download

CONTENT = np.random.default_rng(0).bytes(300_000)
PART = "weights.part.bin"


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(downloading, "WAITS", (0.0, 0.0, 0.0))
    with serving(CONTENT) as served:
        yield served


def whole(path: Path) -> None:
    """What a caller checks: that this is the file."""
    if path.read_bytes() != CONTENT:
        raise LoadError(f"{path.name} holds {path.stat().st_size} bytes of something else")


def get(server: Served, folder: Path, check=whole, **more) -> Path:
    return download(Address(server.url, "weights.bin", len(CONTENT)), folder, check, **more)


def begun(server: Served, folder: Path, count: int = 100_000) -> None:
    """Leaves the first bytes of the file in a folder, as after a lost connection."""
    server.faults = [("drop", count), 404]
    with pytest.raises(UnavailableError, match="404"):
        get(server, folder)
    server.asked.clear()
    assert (folder / PART).stat().st_size == count


def left(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_arrives_whole_and_alone(server, tmp_path) -> None:
    told = []
    path = get(server, tmp_path, tell=lambda done, total: told.append((done, total)))
    assert path == tmp_path / "weights.bin"
    assert path.read_bytes() == CONTENT
    assert left(tmp_path) == ["weights.bin"]
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert server.asked == [""]


def test_lost_connections_are_resumed_where_they_broke(server, tmp_path) -> None:
    server.faults = [("drop", 100_000), 503, ("drop", 200_000)]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["", "bytes=100000-", "bytes=100000-", "bytes=200000-"]
    assert left(tmp_path) == ["weights.bin"]


def test_the_next_call_goes_on_from_what_an_earlier_one_left(server, tmp_path) -> None:
    begun(server, tmp_path)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=100000-"]


def test_a_connection_that_breaks_every_time_is_given_up(server, tmp_path) -> None:
    server.faults = [("drop", n) for n in (10, 20, 30, 40, 50, 60)]
    with pytest.raises(UnavailableError, match=r"broke off after 40 of 300,000 bytes, 4 times"):
        get(server, tmp_path)
    assert (tmp_path / PART).read_bytes() == CONTENT[:40]


@pytest.mark.parametrize("change", ["content", "no ranges", "no validator", "weak validator", "other piece", "damaged"])
def test_a_part_that_cannot_be_continued_starts_anew(server, tmp_path, change: str) -> None:
    if change == "no validator":
        server.etag = None
    elif change == "weak validator":
        server.etag = f"W/{server.etag}"
    begun(server, tmp_path)
    if change == "content":  # what came of the old file must not be the beginning of the new one
        (tmp_path / PART).write_bytes(bytes(100_000))
        server.etag = '"new"'
    elif change == "no ranges":
        server.ranges = False
    elif change == "other piece":
        server.faults = ["other piece"]
    elif change == "damaged":
        (tmp_path / f"{PART}.json").write_text("{")
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == ("bytes=100000-" if change in ("content", "no ranges") else "")
    assert left(tmp_path) == ["weights.bin"]


def test_another_address_does_not_continue_what_the_first_began(server, tmp_path) -> None:
    begun(server, tmp_path)
    server.url = server.url.replace("weights.bin", "other.bin")
    get(server, tmp_path)
    assert server.asked == [""]


def test_a_server_that_has_less_than_was_begun(server, tmp_path) -> None:
    begun(server, tmp_path)
    server.faults = [416]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=100000-", ""]


def test_a_part_that_is_the_whole_file_asks_no_server(server, tmp_path) -> None:
    begun(server, tmp_path)
    (tmp_path / PART).write_bytes(CONTENT)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == []


def test_a_whole_part_of_unknown_length_is_known_by_416(server, tmp_path) -> None:
    begun(server, tmp_path)
    (tmp_path / PART).write_bytes(CONTENT)
    facts = json.loads((tmp_path / f"{PART}.json").read_text())
    (tmp_path / f"{PART}.json").write_text(json.dumps(facts | {"total": None}))
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_an_answer_without_a_length_is_taken_if_it_is_the_file(server, tmp_path) -> None:
    server.faults = ["no length"]
    assert get(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ([404], r"^the server answered 404 Not Found$"),
        ([500] * 9, r"500 Internal Server Error, 4 times"),
        (["html"], "a web page came instead of the file"),
        (["huge"], r"it is 1,000,000\.0 MB, at most 1\.2 were expected"),
        (["endless"], r"does not end after 1\.2 MB"),
        (["short"] * 9, "another file than the one begun"),
        (["gzip"], "packs it as gzip, unasked"),
        (["redirect http://example.org/weights.bin"], "leads to http://example.org, and only https is trusted"),
        (["redirect ftp://127.0.0.1/weights.bin"], "leads to ftp://127.0.0.1, and only https"),
        ([204], "204"),
        (["status HTTP/1.1 403 No\x1b[31mway"], r"^the server answered 403 No\\x1b\[31mway$"),
        (["status HTTP/1.1 404 " + "x" * 5000], r"^the server answered 404 x{200} …$"),
        (["status garb\x1b[2Jage"] * 9, r"no connection \(it is no web server: garb\\x1b\[2Jage\), 4 times$"),
        (["redirect http://127.0.0.1:{port}/weights.bin"] * 99, r"^the server answered 302 [^\n]*infinite loop[^\n]*$"),
        (["redirect https://a\x9bb/w.bin\x07"], r"^it leads to an address that is none [^\x00-\x1f\x7f-\x9f]*$"),
        (["redirect https://[a/w.bin"], r"^it leads to an address that is none \(Invalid IPv6 URL\)$"),
    ],
)
def test_what_is_not_the_file_never_gets_its_name(server, tmp_path, faults, message: str) -> None:
    port = server.url.split(":")[2].partition("/")[0]
    server.faults = [f.replace("{port}", port) if isinstance(f, str) else f for f in faults]
    with pytest.raises(UnavailableError, match=message):
        get(server, tmp_path)
    assert "weights.bin" not in left(tmp_path)
    if faults[0] in ("html", "huge", "endless"):
        assert left(tmp_path) == []


def test_a_redirect_on_this_machine_is_followed_but_not_from_elsewhere(server, tmp_path) -> None:
    server.faults = [f"redirect {server.url}"]
    assert get(server, tmp_path).read_bytes() == CONTENT
    away = urllib.request.Request("https://example.org/weights.bin")
    with pytest.raises(UnavailableError, match=r"leads to http://127.0.0.1"):
        downloading._Redirects().redirect_request(away, None, 302, "", {}, server.url)


@pytest.mark.parametrize("url", ["http://example.org/w.bin", "file:///etc/hostname", "ftp://example.org/w.bin"])
def test_only_https_is_asked(tmp_path, url: str) -> None:
    with pytest.raises(UnavailableError, match="only https is trusted"):
        download(Address(url, "weights.bin", 9), tmp_path, whole)


def test_a_file_that_fails_its_check_is_removed(server, tmp_path) -> None:
    seen = []

    def refuse(path: Path) -> None:
        seen.append(path.suffix)
        raise LoadError("these are no weights")

    with pytest.raises(UnavailableError, match="what came is not the file: these are no weights"):
        get(server, tmp_path, check=refuse)
    assert left(tmp_path) == []
    assert seen == [".bin"]  # readers go by the ending


def test_nobody_there_is_told_at_once(tmp_path, monkeypatch, server) -> None:
    monkeypatch.setattr(time, "sleep", lambda s: pytest.fail("no one waits for a server that was never there"))
    gone = "http://127.0.0.1:9/weights.bin"  # the port of discard, which nobody serves
    with pytest.raises(UnavailableError, match=r"no connection \(Connection refused\)"):
        download(Address(gone, "weights.bin", 9), tmp_path, whole)
    wrong = urllib.error.URLError(ssl.SSLCertVerificationError(1, "certificate verify failed"))
    wrong.reason.verify_message = "self-signed certificate"

    def refuse(*words, **more):
        raise wrong

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", refuse)
    with pytest.raises(UnavailableError, match=r"not trusted \(self-signed certificate\)"):
        get(server, tmp_path)


def test_a_server_that_says_nothing_is_given_up(server, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(downloading, "TIMEOUT", 0.05)
    server.pause = 0.5
    with pytest.raises(UnavailableError, match=r"no answer in 0.05 s\), 4 times"):
        get(server, tmp_path)


def test_a_full_disk_keeps_what_came(server, tmp_path, monkeypatch) -> None:
    class Full:
        def __init__(self, file) -> None:
            self.file = file

        def write(self, chunk: bytes) -> int:
            if self.file.tell() >= 100_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(chunk[:100_000])

        def close(self) -> None:
            self.file.close()

    opened = Path.open
    with monkeypatch.context() as full:
        full.setattr(partial.Path, "open", lambda p, mode: Full(opened(p, mode)) if mode == "ab" else opened(p, mode))
        full.setattr(downloading, "CHUNK", 50_000)
        with pytest.raises(LoadError, match=r"could not write .*weights.part.bin: No space left .* goes on") as caught:
            get(server, tmp_path)
    assert not isinstance(caught.value, UnavailableError)  # another address would help nobody
    came = (tmp_path / PART).stat().st_size
    assert 100_000 <= came < len(CONTENT)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["", f"bytes={came}-"]


def test_too_little_room_is_seen_before(server, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(LoadError, match=r"has room for 0.0 MB and the download needs 0.3; make room"):
        get(server, tmp_path)


def test_an_interrupt_keeps_what_came(server, tmp_path, monkeypatch) -> None:
    def stop(done: int, total: int | None) -> None:
        if done >= 100_000:
            raise KeyboardInterrupt

    monkeypatch.setattr(downloading, "CHUNK", 50_000)
    with pytest.raises(KeyboardInterrupt):
        get(server, tmp_path, tell=stop)
    came = (tmp_path / PART).stat().st_size
    assert came >= 100_000
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == f"bytes={came}-"


SCRIPT = """
import sys
from pathlib import Path
from weightatlas.models.downloads.downloading import Address, download
url, folder = sys.argv[1:]
print(download(Address(url, "weights.bin", 300_000), Path(folder), lambda path: None))
"""


def test_a_killed_download_is_resumed(server, tmp_path) -> None:
    server.pause = 0.01
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, server.url, str(tmp_path)])
    try:
        end = time.monotonic() + 60
        while not ((tmp_path / PART).exists() and (tmp_path / PART).stat().st_size > 20_000):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    came = (tmp_path / PART).stat().st_size
    assert 20_000 < came < len(CONTENT)
    server.pause = 0.0
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["", f"bytes={came}-"]
