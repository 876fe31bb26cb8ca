"""Explorers for tests: a server in a thread of this process, or in one of its own, and plain ways to speak with it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from weightatlas.explorer.desk import Desk
from weightatlas.explorer.guarding import Guard
from weightatlas.explorer.listening import Hub
from weightatlas.explorer.running import Run
from weightatlas.explorer.serving import _listening
from weightatlas.store import open_files

JSON = {"Content-Type": "application/json"}
PATIENCE = 60


class Explorer:
    """A server without a builder in a thread; what is asked of it is kept in ``asked``.

    With ``model``, images can be looked at through a network of that name.
    """

    def __init__(self, atlas, *, site=None, hub=None, names=(), why="", model=None):
        files = open_files(atlas)
        self.desk = Desk(files, hub or Hub(), why, *([] if site is None else [site]))
        if model is not None:
            self.desk.looked_at_by(model)
        self.asked = []
        self.desk.send = self.asked.append
        self._stop, self._ready, self._names = threading.Event(), threading.Event(), names
        self._thread = threading.Thread(target=self._work)

    def _work(self):
        with _listening("127.0.0.1", 0) as taken:
            self.port = taken.getsockname()[1]
            run = Run(self.desk, None, f"http://127.0.0.1:{self.port}/", self._served, None, self._stop, False)
            asyncio.run(run.until_ended(lambda app: Guard(app, "127.0.0.1", self.port, self._names), taken))

    def _served(self, address):
        self.loop = asyncio.get_running_loop()
        self._ready.set()

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        return self

    def __exit__(self, *error):
        self._stop.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def within(self, act, *args):
        """Does something in the server's own thread, and waits for it."""
        done = threading.Event()
        self.loop.call_soon_threadsafe(lambda: (act(*args), done.set()))
        assert done.wait(PATIENCE)

    def get(self, path, headers=None, method="GET", body=None):
        return request(self.port, method, path, headers, body)

    def post(self, path, content, **headers):
        return request(self.port, "POST", path, {**JSON, **headers}, json.dumps(content))

    def delete(self, path, **headers):
        return request(self.port, "DELETE", path, {**JSON, **headers})


class Answer:
    """Status, headers (small letters) and body of an answer."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, {k.lower(): v for k, v in headers}, body

    @property
    def json(self):
        return json.loads(self.body)


def request(port, method, path, headers=None, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host="Host" in (headers or {}))
        data = body.encode() if isinstance(body, str) else body
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if data is not None and "Transfer-Encoding" not in (headers or {}):
            connection.putheader("Content-Length", str(len(data)))
        connection.endheaders(data)
        answer = connection.getresponse()
        return Answer(answer.status, answer.getheaders(), answer.read())


def raw(port, data):
    """What comes back for bytes as they are."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(data)
        found = b""
        while more := connection.recv(2**16):
            found += more
    return found


class Ear:
    """Listens to events, in a thread."""

    def __init__(self, port):
        self.heard, self.closed = [], threading.Event()
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self._connection.request("GET", "/api/events")
        self.answer = self._connection.getresponse()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self):
        name = ""
        with contextlib.suppress(OSError, ValueError, AttributeError, http.client.HTTPException):
            while words := self.answer.readline().decode():
                if words.startswith("event: "):
                    name = words[7:].strip()
                elif words.startswith("data: "):
                    self.heard.append((name, json.loads(words[6:])))
                elif words.startswith(":"):
                    self.heard.append(("heartbeat", None))
        self.closed.set()

    def wait(self, name, fits=lambda content: True, patience=PATIENCE):
        """The first event of a name that fits."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            for heard, content in list(self.heard):
                if heard == name and fits(content):
                    return content
            time.sleep(0.01)
        raise AssertionError(f"no {name} in {self.heard[-20:]}")

    def close(self):
        with contextlib.suppress(OSError, AttributeError):
            self.answer.fp.raw._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self.answer.close()
        self._connection.close()


class Command:
    """``weightatlas`` in a process of its own."""

    def __init__(self, *words, env=None, cwd=None):
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from weightatlas.cli import app; app()", *map(str, words)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "1", "DISPLAY": "", "WAYLAND_DISPLAY": "", **(env or {})},
        )  # fmt: skip

    def address(self):
        """The line with the address; the port is kept."""
        words = self.process.stdout.readline().strip()
        assert words.startswith("http://"), (words, self.process.stderr.read())
        self.port = int(words.rstrip("/").rpartition(":")[2])
        return words

    def children(self):
        """Numbers of the processes that it started."""
        folder = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(n) for n in folder.read_text().split()]

    def end(self, number=signal.SIGINT, patience=PATIENCE):
        """Asks it to end, and tells its status and what it had still to say."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=patience)
        return self.process.returncode, out, err

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=PATIENCE)


def is_running(pid):
    """Whether a process is there, and no mere remains of one."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(fits, patience=PATIENCE):
    until = time.monotonic() + patience
    while not fits():
        assert time.monotonic() < until
        time.sleep(0.02)
