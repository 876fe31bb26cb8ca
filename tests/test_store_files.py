"""Where an atlas lies: folders and buckets keep one contract, and a file is there whole or not at all."""

import contextlib
import errno
import itertools
import os
import re
import sys
import threading

import fsspec.registry  # noqa: F401  # what is known of back ends
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from weightatlas.errors import ArgumentError, MissingPackageError, StoreError
from weightatlas.records import is_temporary
from weightatlas.store import LocalFiles, open_files
from weightatlas.store.files import LOCK, Overlay, is_missing
from weightatlas.store.places import RemoteFiles

ODD = ["a", "b/c", "b/c.json/d", "é 層/x~046", "weights/t/s/values/c.0.0.0.0", "b/con.txt"]
_count = itertools.count()


def local(folder):
    return open_files(folder / "an atlas")


def memory(folder):
    return open_files(f"memory://{folder.name}-{next(_count)}/an atlas")


def moving(folder):
    """A back end without atomic put: what a mounted server or SFTP is."""
    return RemoteFiles(LocalFileSystem(), str(folder / "an atlas"), f"local://{folder}/an atlas", atomic=False)


def overlay(folder):
    below = local(folder)
    below.write("below/x", b"below")
    below.remove("below/x")
    return Overlay(below)


PLACES = {"local": local, "memory": memory, "moving": moving, "overlay": overlay}


@pytest.fixture(params=PLACES)
def files(request, tmp_path):
    return PLACES[request.param](tmp_path)


class TestEveryPlace:
    def test_an_empty_one_holds_nothing(self, files):
        assert files.sizes() == {}
        assert not files.exists("a")
        assert files.read_if_there("a") is None
        assert files.read_if_there("a/b/c") is None
        files.remove("a")
        files.remove("a/b")
        assert files.sweep() == 0
        assert files.sizes() == {}

    def test_what_is_written_is_read(self, files):
        for n, path in enumerate(ODD):
            files.write(path, b"\x00\xff" * n)
        assert files.sizes() == {path: 2 * n for n, path in sorted(enumerate(ODD), key=lambda x: x[1])}
        assert list(files.sizes()) == sorted(ODD)
        for n, path in enumerate(ODD):
            assert files.read(path) == b"\x00\xff" * n == files.read_if_there(path)
            assert files.exists(path)
        files.write("a", b"longer than before")
        assert files.read("a") == b"longer than before"
        assert files.sizes()["a"] == 18

    def test_folders_are_no_files(self, files):
        files.write("b/c/d", b"1")
        assert not files.exists("b")
        assert not files.exists("b/c")
        assert not files.exists("b/c/d/e")
        assert files.read_if_there("b/c/d/e") is None
        assert list(files.sizes()) == ["b/c/d"]

    def test_what_is_missing_is_named(self, files):
        files.write("b/c", b"1")
        for path in ("x", "b/x", "b/c/x"):
            with pytest.raises(StoreError, match=f"^there is no {path} in .*an atlas") as caught:
                files.read(path)
            assert is_missing(caught.value.__cause__)

    def test_what_is_removed_is_gone_and_nothing_else(self, files):
        for path in ("a/b/c", "a/b/d", "a/e", "ab"):
            files.write(path, b"1")
        files.remove("a/b/c")
        assert list(files.sizes()) == ["a/b/d", "a/e", "ab"]
        files.remove("a/b/c")
        files.remove("a/b/d/x")
        files.remove("a/b/d")
        assert not files.exists("a/b/d")
        assert list(files.sizes()) == ["a/e", "ab"]
        files.write("a/b/c", b"2")
        assert files.read("a/b/c") == b"2"

    def test_lock_and_unfinished_files_are_not_listed(self, files):
        for path in ("a", LOCK, ".a.0123456789abcdef", "b/.c.json.0123456789abcdef"):
            files.write(path, b"1")
        other = [".b", "b/.a.0123456789ABCDEF", "b/.lock.x", "b/.lock", ".a.0123456789abcdef0"]
        for path in other:
            files.write(path, b"1")
        assert sorted(files.sizes()) == sorted(["a", *other])

    def test_without_its_marker_nothing_is_written(self, files):
        files.write("model.json", b"1")
        files.marker = "model.json"
        files.require()
        files.write("b/c", b"1")
        files.marker = ""
        files.remove("model.json")
        files.marker = "model.json"
        with pytest.raises(StoreError, match=r"an atlas' is gone: its model\.json was there when the build began"):
            files.require()
        with pytest.raises(StoreError, match="is gone"):
            files.write("b/d", b"1")
        assert list(files.sizes()) == ["b/c"]

    def test_it_says_where_it_is(self, files):
        assert re.fullmatch(r"(LocalFiles|RemoteFiles|Overlay)\('.*an atlas'\)", repr(files))
        assert open_files(files) is files


@pytest.mark.parametrize("kind", ["local", "moving"])
class TestWholeOrNotAtAll:
    """Faults are injected into every call that writing makes, at each in turn."""

    @pytest.fixture
    def files(self, kind, tmp_path):
        return PLACES[kind](tmp_path)

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
    @pytest.mark.parametrize("call", ["open", "write", "close", "rename"])
    def test_a_fault_leaves_the_old_file_and_no_other(self, files, kind, call, code, monkeypatch, tmp_path):
        files.write("b/c", b"before")
        with monkeypatch.context() as patch:
            fail_at(patch, call, code)
            with pytest.raises(StoreError, match=f"could not write .*{os.strerror(code)}"):
                files.write("b/c", b"after")
            with pytest.raises(StoreError, match=f"could not write .*{os.strerror(code)}"):
                files.write("b/d", b"new")
        assert everything(tmp_path) == {"an atlas/b/c": b"before"}
        files.write("b/c", b"after")
        assert everything(tmp_path) == {"an atlas/b/c": b"after"}

    def test_an_interrupt_leaves_the_old_file_and_no_other(self, files, kind, monkeypatch, tmp_path):
        files.write("b/c", b"before")
        with monkeypatch.context() as patch:
            fail_at(patch, "rename", KeyboardInterrupt())
            with pytest.raises(KeyboardInterrupt):
                files.write("b/c", b"after")
        assert everything(tmp_path) == {"an atlas/b/c": b"before"}

    def test_readers_never_see_a_part(self, files, kind):
        contents = {bytes([n]) * 300_000 for n in range(3)}
        seen, done = set(), threading.Event()

        def read():
            while not done.is_set():
                data = files.read_if_there("x")
                if data is not None:
                    seen.add((len(data), *set(data)))

        files.write("x", bytes(300_000))
        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(20):
            for content in contents:
                files.write("x", content)
        done.set()
        reader.join()
        assert seen <= {(300_000, n) for n in range(3)}
        assert len(seen) > 1

    def test_what_killed_writers_left_is_swept_away(self, files, kind, tmp_path):
        files.write("b/c", b"1")
        left = ["an atlas/.a.0123456789abcdef", "an atlas/b/.c.0123456789abcdef"]
        for name in left:
            (tmp_path / name).write_bytes(b"half")
        (tmp_path / "an atlas" / ".notes").write_bytes(b"mine")
        assert files.sweep() == 2
        assert sorted(everything(tmp_path)) == ["an atlas/.notes", "an atlas/b/c"]
        assert files.sweep() == 0


def everything(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def fail_at(patch, call, fault):
    """Makes one of the calls of writing fail: of the operating system, and of what fsspec writes with."""
    error = fault if isinstance(fault, BaseException) else OSError(fault, os.strerror(fault))

    def fail(*_, **__):
        raise error

    class Failing:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *about):
            self.file.close()
            if call == "close" and about[0] is None:
                raise error

        def write(self, data):
            if call == "write":
                self.file.write(data[: len(data) // 2])
                raise error
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    if call == "open":
        patch.setattr(os, "open", fail)
        patch.setattr(LocalFileSystem, "open", fail)
    elif call == "rename":
        patch.setattr(os, "replace", fail)
        patch.setattr(LocalFileSystem, "mv", fail)
    else:
        fdopen, opened = os.fdopen, LocalFileSystem.open
        patch.setattr(os, "fdopen", lambda *a, **k: Failing(fdopen(*a, **k)))
        patch.setattr(LocalFileSystem, "open", lambda *a, **k: Failing(opened(*a, **k)))


class TestFolders:
    def test_a_folder_that_vanished_is_not_made_again(self, tmp_path):
        files = LocalFiles(tmp_path / "drive" / "atlas")
        files.write("model.json", b"1")
        files.marker = "model.json"
        os.rename(tmp_path / "drive", tmp_path / "unmounted")
        with pytest.raises(StoreError, match=r"is gone.*put the folder back and build again"):
            files.write("images/a/quick/3.webp", b"1")
        assert os.listdir(tmp_path) == ["unmounted"]
        os.rename(tmp_path / "unmounted", tmp_path / "drive")
        files.write("images/a/quick/3.webp", b"1")
        assert files.exists("images/a/quick/3.webp")

    def test_folders_that_nothing_is_left_in_go_too(self, tmp_path):
        files = LocalFiles(tmp_path / "atlas")
        files.write("a/b/c/d", b"1")
        files.write("a/e", b"1")
        files.remove("a/b/c/d")
        assert sorted(p.name for p in (tmp_path / "atlas").rglob("*")) == ["a", "e"]
        files.remove("a/e")
        assert list((tmp_path / "atlas").iterdir()) == []
        assert (tmp_path / "atlas").is_dir()

    def test_files_and_folders_that_vanish_while_they_are_listed_are_passed_over(self, tmp_path, monkeypatch):
        """Other processes remove files at any time; what is left must be listed all the same."""
        files = LocalFiles(tmp_path)
        for path in ("a/1", "b/1", "b/2", "c/d/1", "e"):
            files.write(path, b"1")
        scan = os.scandir

        def scandir(folder):
            entries = list(scan(folder))
            if os.path.basename(folder) == "b":  # listed, and gone before it is looked at
                os.unlink(tmp_path / "b" / "1")
            if os.fspath(folder) == os.fspath(tmp_path):
                os.unlink(tmp_path / "c" / "d" / "1")
                os.rmdir(tmp_path / "c" / "d")
                os.rmdir(tmp_path / "c")
            return contextlib.nullcontext(entries)

        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", scandir)
            assert files.sizes() == {"a/1": 1, "b/2": 1, "e": 1}

    def test_links_to_nothing_are_no_files(self, tmp_path):
        files = LocalFiles(tmp_path)
        files.write("a", b"1")
        os.symlink(tmp_path / "nowhere", tmp_path / "b")
        os.symlink(tmp_path / "a", tmp_path / "c")
        assert files.sizes() == {"a": 1, "c": 1}
        assert not files.exists("b")
        assert files.read_if_there("b") is None

    def test_links_in_a_circle_do_no_harm(self, tmp_path):
        files = LocalFiles(tmp_path)
        files.write("a/b", b"1")
        os.symlink(tmp_path, tmp_path / "a" / "up")
        os.symlink("itself", tmp_path / "itself")
        assert files.sizes() == {"a/b": 1}

    def test_the_folder_one_is_in(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for place in (".", "", "./"):
            if place:
                files = open_files(place)
                files.write("a/b", b"1")
                assert files.sizes() == {"a/b": 1}
        assert (tmp_path / "a" / "b").is_file()

    def test_a_file_is_no_folder(self, tmp_path):
        (tmp_path / "x").write_bytes(b"1")
        files = open_files(tmp_path / "x")
        with pytest.raises(StoreError, match="x' cannot be listed: Not a directory"):
            files.sizes()
        with pytest.raises(StoreError, match="could not write"):
            files.write("a", b"1")
        with pytest.raises(StoreError, match="there is no a in"):
            files.read("a")
        assert not files.exists("a")
        assert (tmp_path / "x").read_bytes() == b"1"

    def test_a_folder_where_a_file_should_be(self, tmp_path):
        files = LocalFiles(tmp_path)
        files.write("a/b", b"1")
        with pytest.raises(StoreError, match=r"a in .* cannot be read: Is a directory"):
            files.read_if_there("a")
        with pytest.raises(StoreError, match="could not write"):
            files.write("a", b"1")
        with pytest.raises(StoreError, match=r"a in .* cannot be removed"):
            files.remove("a")
        assert files.sizes() == {"a/b": 1}

    @pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
    def test_what_cannot_be_reached_is_said_and_not_taken_for_missing(self, tmp_path, monkeypatch, code):
        files = LocalFiles(tmp_path)
        files.write("a", b"1")
        files.marker = "a"

        def fail(*_, **__):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "stat", fail)
        monkeypatch.setattr(os, "unlink", fail)
        monkeypatch.setattr(os, "scandir", fail)
        monkeypatch.setattr("pathlib.Path.read_bytes", fail)
        for attempt in (
            lambda: files.exists("a"),
            lambda: files.write("b", b"1"),
            lambda: files.read_if_there("a"),
            lambda: files.remove("a"),
            files.sizes,
        ):
            with pytest.raises(StoreError, match=os.strerror(code)):
                attempt()

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_that_may_not_be_written(self, tmp_path):
        files = LocalFiles(tmp_path)
        files.write("a", b"1")
        tmp_path.chmod(0o500)
        with pytest.raises(StoreError, match="Permission denied"):
            files.write("a", b"2")
        with pytest.raises(StoreError, match="Permission denied"):
            files.remove("a")
        tmp_path.chmod(0o700)
        assert files.read("a") == b"1"

    def test_names_longer_than_the_system_allows_are_an_error(self, tmp_path):
        files = LocalFiles(tmp_path)
        for path in ("x" * 300, "/".join(["x" * 200] * 30)):
            with pytest.raises(StoreError, match="File name too long"):
                files.write(path, b"1")
        assert files.sizes() == {}


class Memory(MemoryFileSystem):
    """A bucket of one's own in which things can go wrong."""

    protocol = "broken"
    cachable = False
    error = None

    def __init__(self, **more):
        super().__init__(**more)
        self.store, self.pseudo_dirs = {}, [""]

    def fail(self, *_, **__):
        raise self.error

    cat_file = pipe_file = rm_file = find = info = fail


class TestBuckets:
    @pytest.mark.parametrize(
        "error", [PermissionError(13, "Forbidden"), TimeoutError(), RuntimeError("no credentials")]
    )
    def test_what_goes_wrong_there_is_said_and_not_taken_for_missing(self, error):
        system = Memory()
        system.error = error
        files = RemoteFiles(system, "/bucket", "broken://bucket", atomic=True)
        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
        for attempt in (
            lambda: files.read_if_there("a"),
            lambda: files.write("a", b"1"),
            lambda: files.remove("a"),
            lambda: files.exists("a"),
            files.sizes,
        ):
            with pytest.raises(StoreError, match=f"broken://bucket.*{words}") as caught:
                attempt()
            assert caught.value.__cause__ is error

    def test_an_atomic_put_needs_no_other_name(self):
        files = open_files("memory://put/atlas")
        put, names = MemoryFileSystem.pipe_file, []
        files.system.pipe_file = lambda path, data: (names.append(path), put(files.system, path, data))
        try:
            files.write("a/b", b"1")
        finally:
            del files.system.pipe_file
        assert names == ["/put/atlas/a/b"]

    def test_what_has_no_atomic_put_goes_through_a_temporary_name(self, tmp_path, monkeypatch):
        files, moved = moving(tmp_path), []
        move = LocalFileSystem.mv

        def mv(system, source, target, **more):
            moved.append((os.path.relpath(source, tmp_path), os.path.relpath(target, tmp_path), os.path.exists(target)))
            return move(system, source, target, **more)

        monkeypatch.setattr(LocalFileSystem, "mv", mv)
        files.write("a/b.json", b"1")
        files.write("a/b.json", b"2")
        assert [(target, was) for _, target, was in moved] == [
            ("an atlas/a/b.json", False),
            ("an atlas/a/b.json", True),
        ]
        for source, target, _ in moved:
            assert os.path.dirname(source) == os.path.dirname(target)
            assert is_temporary(os.path.basename(source))
        assert files.read("a/b.json") == b"2"

    @pytest.mark.parametrize(
        ("url", "atomic"),
        [
            ("memory://x/y", True),
            ("local:///x/y", False),
            ("simplecache::memory://x/y", False),
            ("s3://bucket/x", True),
        ],
    )
    def test_which_put_is_atomic(self, url, atomic, tmp_path):
        if url.startswith("s3"):
            pytest.importorskip("s3fs")
        assert open_files(url).atomic is atomic

    def test_other_folders_of_the_bucket_are_none_of_its_business(self):
        one, other = open_files("memory://shared/atlas"), open_files("memory://shared/atlas2")
        one.write("a", b"1")
        other.write("a", b"22")
        open_files("memory://shared").write("atlas.json", b"333")
        assert (one.sizes(), other.sizes()) == ({"a": 1}, {"a": 2})
        assert open_files("memory://shared/atlas/").sizes() == {"a": 1}

    def test_marks_of_folders_that_consoles_leave_are_no_files(self, monkeypatch):
        files = open_files("memory://marks/atlas")
        files.write("a/b", b"1")
        find = MemoryFileSystem.find
        mark = {"/marks/atlas/a/": {"name": "/marks/atlas/a/", "size": 0, "type": "directory"}}
        monkeypatch.setattr(MemoryFileSystem, "find", lambda *a, **k: {**mark, **find(*a, **k)})
        assert files.sizes() == {"a/b": 1}


class TestPlaces:
    def test_paths_of_every_kind(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        for place in (tmp_path / "a", str(tmp_path / "a"), f"file://{tmp_path}/a", "~/a", "a"):
            files = open_files(place)
            assert isinstance(files, LocalFiles)
            assert os.path.abspath(files.root) == str(tmp_path / "a")
        assert not (tmp_path / "a").exists()  # nothing is made

    @pytest.mark.parametrize("place", [None, "", 3, b"atlas", ["atlas"], True, object()])
    def test_what_is_no_place_is_refused(self, place):
        with pytest.raises(ArgumentError, match=r"a folder or at a URL such as s3://bucket/atlas, not"):
            open_files(place)

    @pytest.mark.parametrize("place", ["a\x00b", "~nobody-of-that-name/atlas", "file://"])
    def test_what_cannot_be_a_folder_is_refused(self, place):
        with pytest.raises(ArgumentError, match="atlas"):
            open_files(place)

    def test_unknown_protocols_are_refused(self):
        with pytest.raises(
            ArgumentError, match=r"'carrier-pigeon://x' is no URL that fsspec can open: .*carrier-pigeon"
        ):
            open_files("carrier-pigeon://x")

    @pytest.mark.parametrize(
        ("url", "module", "words"),
        [
            ("s3://bucket/atlas", "s3fs", r"s3:// needs .*pip install 'weightatlas\[s3\]'"),
            ("gs://bucket/atlas", "gcsfs", r"gs:// needs .*pip install 'weightatlas\[gcs\]'"),
            ("gcs://bucket/atlas", "gcsfs", r"gcs:// needs .*pip install 'weightatlas\[gcs\]'"),
            ("simplecache::gs://bucket/atlas", "gcsfs", r"gs:// needs .*pip install 'weightatlas\[gcs\]'"),
            ("sftp://host/atlas", "paramiko", r"sftp:// needs .*paramiko"),
        ],
    )
    def test_a_back_end_that_is_not_installed_is_named_with_the_command(self, url, module, words, monkeypatch):
        monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.delitem(sys.modules, "fsspec.implementations.sftp", raising=False)
        for protocol in ("s3", "gs", "gcs", "sftp"):
            monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, protocol, raising=False)
        with pytest.raises(MissingPackageError, match=words):
            open_files(url)


class TestOverlay:
    def test_what_is_tried_out_leaves_no_trace(self, tmp_path):
        below = LocalFiles(tmp_path)
        below.write("a", b"1")
        below.write("b/c", b"22")
        tried = Overlay(below)
        tried.write("a", b"333")
        tried.write("d", b"4444")
        tried.remove("b/c")
        assert tried.sizes() == {"a": 3, "d": 4}
        assert tried.read("a") == b"333"
        assert tried.read_if_there("b/c") is None
        assert not tried.exists("b/c")
        assert below.sizes() == {"a": 1, "b/c": 2}
        assert everything(tmp_path) == {"a": b"1", "b/c": b"22"}
        tried.write("b/c", b"5")
        assert tried.read("b/c") == b"5"
