"""The cache of published weights: where it is, what is held to its hash, and what is said when nothing can be had."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import filelock
import numpy as np
import pytest
import torch
from graphwriting import constant, tensor
from misbehaving import serving

import weightatlas as wa
from weightatlas.errors import LoadError, UnknownNameError, WeightAtlasWarning
from weightatlas.models import inceptionv1, model_spec
from weightatlas.models.downloads import caching, downloading
from weightatlas.models.downloads.caching import cache_folder
from weightatlas.models.downloads.downloading import Address
from weightatlas.models.downloads.published import Published

CONTENT = b"weights of some network" * 1000


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "a" / "cache"
    monkeypatch.setenv(caching.VARIABLE, str(folder))
    monkeypatch.setattr(downloading, "WAITS", ())
    return folder


@pytest.fixture
def server():
    with serving(CONTENT) as served:
        yield served


def whole(path: Path) -> None:
    if path.read_bytes() != CONTENT:
        raise LoadError(f"{path.name} is something else")


def published(*urls: str) -> Published:
    names = ("first.bin", "second.bin")
    addresses = tuple(Address(url, name, len(CONTENT)) for url, name in zip(urls, names, strict=False))
    return Published("inceptionv1", addresses, (*names, "third.bin"), whole)


def pins(cache: Path) -> dict:
    return json.loads((cache / "pins.json").read_text())


class TestFolder:
    def test_is_the_variables_else_the_systems(self, monkeypatch, tmp_path) -> None:
        monkeypatch.setenv(caching.VARIABLE, str(tmp_path))
        assert cache_folder() == tmp_path
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv(caching.VARIABLE, "here")
        assert cache_folder() == tmp_path / "here"
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv(caching.VARIABLE, "~/there")
        assert cache_folder() == tmp_path / "there"
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        for empty in ("", " "):
            monkeypatch.setenv(caching.VARIABLE, empty)
            assert tmp_path in cache_folder().parents
            assert cache_folder().name == "weightatlas"
        assert list(tmp_path.iterdir()) == []

    def test_needs_a_home(self, monkeypatch) -> None:
        monkeypatch.setenv(caching.VARIABLE, "~nobody-of-that-name/cache")
        with pytest.raises(LoadError, match="names a home folder that there is not"):
            cache_folder()
        monkeypatch.delenv(caching.VARIABLE)
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where there is neither HOME nor an account
        with pytest.raises(LoadError, match=r"no home folder .* set WEIGHTATLAS_CACHE=FOLDER"):
            cache_folder()

    def test_a_file_in_the_way(self, cache, server) -> None:
        cache.parent.write_text("")
        with pytest.raises(LoadError, match=rf"{cache.parent} is not a folder. Set WEIGHTATLAS_CACHE=FOLDER"):
            published(server.url).find()
        assert server.asked == []

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_that_may_not_be_written_into(self, cache, server) -> None:
        cache.parent.mkdir()
        cache.parent.chmod(0o500)
        with pytest.raises(LoadError, match=r"cannot be made: Permission denied. Set WEIGHTATLAS_CACHE=FOLDER"):
            published(server.url).find()

    def test_a_folder_where_no_lock_can_be_made(self, cache, server) -> None:
        (cache / "inceptionv1" / ".lock").mkdir(parents=True)
        with pytest.raises(LoadError, match=r"nothing can be written into .*inceptionv1: Is a directory"):
            published(server.url).find()

    def test_a_file_system_without_locks(self, cache, server, monkeypatch) -> None:
        def acquire(self, **options: object) -> None:
            raise NotImplementedError("FileSystem does not appear to support flock")

        monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
        assert published(server.url).find().read_bytes() == CONTENT
        assert len(pins(cache)) == 1


class TestFirstUse:
    def test_downloads_says_so_and_pins(self, cache, server, capsys) -> None:
        weights = published(server.url)
        assert weights.here() is None
        assert not cache.exists()
        path = weights.find()
        assert path == cache / "inceptionv1" / "first.bin"
        digest = sha256(CONTENT).hexdigest()
        assert pins(cache)["inceptionv1/first.bin"] | {"since": ""} == {
            "sha256": digest,
            "size": len(CONTENT),
            "source": server.url,
            "since": "",
        }
        out, told = capsys.readouterr()
        assert out == ""
        first, last = told.splitlines()
        assert first == (
            f"weightatlas: downloading first.bin (about 0 MB) from {server.url} into {cache / 'inceptionv1'}"
        )
        assert digest in last
        assert "pinned in pins.json" in last
        assert weights.find() == weights.here() == path
        assert server.asked == [""]
        assert capsys.readouterr().err == ""

    def test_a_copy_put_there_by_hand_is_checked_and_pinned(self, cache, server, capsys) -> None:
        path = cache / "inceptionv1" / "third.bin"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"other")
        with pytest.raises(LoadError, match=rf"third.bin is something else. {path} was put into the cache; delete it"):
            published(server.url).find()
        path.write_bytes(CONTENT)
        assert published(server.url).find() == path
        assert pins(cache)["inceptionv1/third.bin"]["source"] == ""
        assert server.asked == []

    def test_the_second_address_serves_where_the_first_fails(self, cache, server, capsys) -> None:
        server.faults = [404]
        other = server.url.replace("weights", "copy")
        assert published(server.url, other).find() == cache / "inceptionv1" / "second.bin"
        assert f"{server.url} does not give it: the server answered 404 Not Found" in capsys.readouterr().err
        assert pins(cache)["inceptionv1/second.bin"]["source"] == other

    def test_nothing_to_be_had(self, cache, server) -> None:
        server.faults = [404, "html"]
        other = server.url.replace("weights", "copy")
        with pytest.raises(LoadError) as caught:
            published(server.url, other).find()
        for piece in (
            f"{server.url}: the server answered 404 Not Found",
            f"{other}: a web page came instead of the file",
            f"Put a copy into {cache / 'inceptionv1'} as first.bin, second.bin or third.bin",
            "load('inceptionv1', weights=FILE)",
            "WEIGHTATLAS_CACHE=FOLDER",
            'load("efficientnet_lite0")',
        ):
            assert piece in str(caught.value)

    def test_what_the_disk_refuses_is_not_tried_elsewhere(self, cache, server, monkeypatch) -> None:
        monkeypatch.setattr(downloading.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 0}))
        with pytest.raises(LoadError, match=r"^\S+ has room for 0.0 MB"):
            published(server.url, server.url).find()
        assert len(server.asked) == 1

    def test_a_terminal_sees_how_far_it_is(self, cache, server, monkeypatch, capsys) -> None:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        published(server.url).find()
        assert "\r\x1b[K  0.0 of 0.0 MB\r\x1b[K" in capsys.readouterr().err

    def test_a_cache_that_cannot_be_written_warns(self, cache, server, monkeypatch) -> None:
        path = cache / "inceptionv1" / "first.bin"
        path.parent.mkdir(parents=True)
        path.write_bytes(CONTENT)
        (cache / ".lock").mkdir()
        with pytest.warns(WeightAtlasWarning, match=r"has SHA-256 [0-9a-f]{64}, which is not pinned: nothing can be"):
            assert published(server.url).find() == path


class TestPins:
    @pytest.fixture
    def path(self, cache, server) -> Path:
        return published(server.url).find()

    def test_a_changed_file_is_refused(self, cache, server, path) -> None:
        changed = CONTENT.replace(b"some", b"any?")
        path.write_bytes(changed)
        for call in (published(server.url).find, published(server.url).here):
            with pytest.raises(LoadError) as caught:
                call()
            for piece in (
                str(path),
                sha256(CONTENT).hexdigest(),
                sha256(changed).hexdigest(),
                "Delete the file to have it downloaded again",
                "weightatlas models --forget inceptionv1",
            ):
                assert piece in str(caught.value)
        path.unlink()
        assert published(server.url).find().read_bytes() == CONTENT

    def test_a_change_that_is_meant(self, server, path) -> None:
        path.write_bytes(b"other")
        assert wa.forget_pin("inceptionv1") == (str(path),)
        assert published(server.url).here() == path
        path.write_bytes(CONTENT)
        assert published(server.url).find() == path
        assert wa.forget_pin("efficientnet_lite0") == ()
        with pytest.raises(UnknownNameError, match="nearest: 'inceptionv1'"):
            wa.forget_pin("inception")

    def test_a_file_that_changed_where_it_is_published(self, server, path) -> None:
        path.unlink()
        server.content, server.etag = CONTENT + CONTENT, '"new"'
        with pytest.raises(LoadError, match=r"was just downloaded from http\S+: what is published there changed"):
            Published("inceptionv1", published(server.url).addresses, ("first.bin",), lambda path: None).find()

    @pytest.mark.parametrize("content", ["", "[]", '{"inceptionv1/first.bin": {"sha256": "0"}}', "{", "[" * 100_000])
    def test_damaged_pins_are_not_taken_for_none(self, cache, server, path, content: str) -> None:
        (cache / "pins.json").write_text(content)
        with pytest.raises(LoadError, match=r"pins.json, which holds the hashes .* is damaged .* delete it"):
            published(server.url).find()

    def test_each_file_is_hashed_once(self, server, path, monkeypatch) -> None:
        monkeypatch.setattr(caching.hashlib, "file_digest", lambda *words: pytest.fail("it is the same file"))
        assert published(server.url).find() == path


SCRIPT = """
import sys
from weightatlas.models.downloads.downloading import Address
from weightatlas.models.downloads.published import Published
address = Address(sys.argv[1], "first.bin", 20_000)
print(Published("inceptionv1", (address,), ("first.bin",), lambda path: None).find())
"""


@pytest.mark.timeout(120)
def test_two_processes_download_once(cache, server) -> None:
    command = [sys.executable, "-c", SCRIPT, server.url]
    with caching.locked(cache / "inceptionv1"):  # until both stand before the door
        processes = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) for _ in range(2)
        ]
        for process in processes:
            assert b"another process downloads into" in process.stderr.readline()
    told = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert {out.decode().strip() for out, _ in told} == {str(cache / "inceptionv1" / "first.bin")}
    assert server.asked == [""]
    assert (cache / "inceptionv1" / "first.bin").read_bytes() == CONTENT
    assert len(pins(cache)) == 1


#: What captum's port calls the parts of a block.
PORT = {
    "1x1": "conv_1x1",
    "3x3_bottleneck": "conv_3x3_reduce",
    "3x3": "conv_3x3",
    "5x5_bottleneck": "conv_5x5_reduce",
    "5x5": "conv_5x5",
    "pool_reduce": "pool_proj",
}


def archive(state: dict[str, torch.Tensor]) -> bytes:
    """The published archive: TensorFlow's graph, which has the axes in another order."""
    graph = b""
    for name, value in state.items():
        order = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[value.ndim]
        array = np.ascontiguousarray(value.numpy().transpose(order))
        graph += constant(name.replace(".weight", "_w").replace(".bias", "_b"), tensor(array))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("tensorflow_inception_graph.pb", graph)
    return buffer.getvalue()


def port(state: dict[str, torch.Tensor]) -> bytes:
    """The file of captum's port."""
    stem = {"conv2d0": "conv1", "conv2d1": "conv2", "conv2d2": "conv3", "softmax2": "fc"}
    ported = {}
    for name, value in state.items():
        layer, leaf = name.split(".")
        block, _, branch = layer.partition("_")
        ported[f"{stem.get(layer) or f'{block}.{PORT[branch]}'}.{leaf}"] = value
    buffer = io.BytesIO()
    torch.save(ported, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(("form", "file"), [(archive, "inception5h.zip"), (port, "inception5h.pth")])
def test_inceptionv1_from_each_of_its_addresses(cache, monkeypatch, form, file: str) -> None:
    spec, weights = model_spec("inceptionv1"), inceptionv1.WEIGHTS
    assert [a.url.partition("://")[0] for a in weights.addresses] == ["https", "https"]
    assert [(a.url.rpartition("/")[2], a.file) for a in weights.addresses] == [
        (name, name) for name in ("inception5h.zip", "inception5h.pth")
    ]
    assert spec.find_here() is None
    with torch.no_grad():
        state = {k: v.clone() for k, v in spec.build().state_dict().items()}
    with serving(form(state)) as server:
        # the archive's connection breaks off once; the port's file comes after the archive's address failed
        server.faults = [("drop", 5_000_000)] if form is archive else ["html"]
        there = tuple(replace(a, url=server.url) for a in weights.addresses)
        monkeypatch.setattr(downloading, "WAITS", (0.0,))
        object.__setattr__(spec, "find_weights", replace(weights, addresses=there).find)
        try:
            net = wa.load("inceptionv1")
        finally:
            object.__setattr__(spec, "find_weights", weights.find)
        assert server.asked == ["", "bytes=5000000-" if form is archive else ""]
    assert all(torch.equal(net.module.state_dict()[k], v) for k, v in state.items())
    assert net.file == f"{file} sha256:{pins(cache)[f'inceptionv1/{file}']['sha256']}"
    assert spec.find_here() == cache / "inceptionv1" / file
    assert sorted(p.name for p in (cache / "inceptionv1").iterdir()) == [".lock", file]


def test_inceptionv1_refuses_another_network_under_its_name(cache) -> None:
    path = cache / "inceptionv1" / "inception5h.pth"
    path.parent.mkdir(parents=True)
    torch.save({"conv1.weight": torch.ones(2, 3, 7, 7)}, path)
    with pytest.raises(LoadError, match=r"was put into the cache; delete it to download another"):
        wa.load("inceptionv1")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(LoadError, match=r"was put into the cache; delete it to download another"):
        wa.load("inceptionv1")
    assert not (cache / "pins.json").exists()
