"""Record files: what goes wrong in reading or writing is said, and leaves no broken file behind."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
from planted import odd_factors, odd_weights

from weightatlas.errors import ArgumentError, LoadError
from weightatlas.records import Weights, atomic_write
from weightatlas.records.base import SCHEMA

SUFFIXES = (".npz", ".safetensors")


@pytest.mark.parametrize("name", ["w.json", "w", "w.npz.gz", "npz"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(ArgumentError, match=r"\.npz or \.safetensors"):
        odd_weights().save(tmp_path / name)
    with pytest.raises(ArgumentError, match=r"\.npz or \.safetensors"):
        Weights.load(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
class TestUnreadableFiles:
    def test_missing(self, tmp_path, suffix):
        with pytest.raises(LoadError, match=r"there is no file .*gone"):
            Weights.load(tmp_path / f"gone{suffix}")

    def test_truncated_anywhere(self, tmp_path, suffix):
        path = odd_weights().save(tmp_path / f"w{suffix}")
        whole = path.read_bytes()
        for size in np.linspace(0, len(whole) - 1, 23).astype(int):
            path.write_bytes(whole[:size])
            with pytest.raises(LoadError, match=r"not a record|damaged|complete"):
                Weights.load(path)

    def test_foreign(self, tmp_path, suffix):
        path = tmp_path / f"w{suffix}"
        if suffix == ".npz":
            np.savez(path, a=np.zeros(3))
        else:
            from safetensors.numpy import save_file

            save_file({"a": np.zeros(3)}, path)
        with pytest.raises(LoadError, match="not a record that weightatlas wrote"):
            Weights.load(path)

    def test_a_folder(self, tmp_path, suffix):
        path = tmp_path / f"w{suffix}"
        path.mkdir()
        with pytest.raises(LoadError):
            Weights.load(path)
        with pytest.raises(LoadError, match="could not write"):
            odd_weights().save(path)
        assert [p.name for p in tmp_path.iterdir()] == [path.name]

    def test_another_record(self, tmp_path, suffix):
        path = odd_factors().save(tmp_path / f"f{suffix}")
        with pytest.raises(LoadError, match=r"holds Factors, not Weights; use Factors\.load"):
            Weights.load(path)


def edited(path, change):
    """The .npz record at path with its description changed."""
    with np.load(path) as file:
        arrays = dict(file)
    meta = change(json.loads(str(arrays.pop("record"))))
    np.savez(path, record=np.array(json.dumps(meta)), **arrays)
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m | {"schema": SCHEMA + 1}, "newer weightatlas .*upgrade"),
        (lambda m: m | {"schema": "x"}, "newer weightatlas"),
        (lambda m: {k: v for k, v in m.items() if k != "fields"}, "no complete Weights"),
        (lambda m: m | {"fields": None}, "no complete Weights"),
        (lambda m: m | {"fields": m["fields"] | {"colour": 1}}, "no complete Weights.*colour"),
        (lambda m: m | {"fields": {k: v for k, v in m["fields"].items() if k != "target"}}, "target"),
        (lambda m: m | {"fields": m["fields"] | {"provenance": {"x": 1}}}, "no complete Weights"),
        (lambda m: m | {"fields": m["fields"] | {"replaced": [1]}}, "no complete Weights"),
        (lambda m: m | {"fields": m["fields"] | {"source_units": 99}}, "no complete Weights.*99"),
        (lambda m: m | {"kind": "Atlas"}, "holds Atlas, not Weights$"),
        (lambda m: [m], "not a record"),
        (lambda m: "text", "not a record"),
    ],
)
def test_descriptions_that_do_not_fit(tmp_path, change, words):
    path = edited(odd_weights().save(tmp_path / "w.npz"), change)
    with pytest.raises(LoadError, match=words):
        Weights.load(path)


class Bomb:
    def __reduce__(self):
        return (os.mkdir, (os.environ["BOMB"],))


def test_pickled_objects_are_never_unpickled(tmp_path, monkeypatch):
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    path = odd_weights().save(tmp_path / "w.npz")
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **(arrays | {"values": np.array([Bomb()], dtype=object)}))
    with pytest.raises(LoadError, match="not a record"):
        Weights.load(path)
    assert not (tmp_path / "exploded").exists()
    with zipfile.ZipFile(path) as archive:  # the bomb itself is live
        assert b"mkdir" in archive.read("values.npy")


class TestWriting:
    def test_the_old_file_outlives_a_full_disk(self, tmp_path, monkeypatch):
        path = odd_weights(seed=1).save(tmp_path / "w.npz")
        before = path.read_bytes()
        for call in ("fsync", "replace"):
            with monkeypatch.context() as patch:
                patch.setattr(os, call, self.full)
                with pytest.raises(LoadError, match="No space left on device; nothing there was changed"):
                    odd_weights(seed=2).save(path)
            assert path.read_bytes() == before
            assert os.listdir(tmp_path) == ["w.npz"]
        assert odd_weights(seed=2).save(path).read_bytes() != before

    @staticmethod
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def test_an_interrupt_leaves_nothing_behind(self, tmp_path, monkeypatch):
        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            atomic_write(tmp_path / "a", b"x")
        assert os.listdir(tmp_path) == []

    def test_folders_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("a file")
        for path in (tmp_path / "file" / "w.npz", "/proc/nowhere/w.npz", f"{tmp_path}/nul\x00.npz"):
            with pytest.raises(LoadError, match="could not write"):
                odd_weights().save(path)
        assert os.listdir(tmp_path) == ["file"]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_no_permission(self, tmp_path):
        tmp_path.chmod(0o500)
        with pytest.raises(LoadError, match="Permission denied"):
            odd_weights().save(tmp_path / "w.npz")

    @pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
    def test_permissions_follow_the_umask(self, tmp_path, mask, mode):
        before = os.umask(mask)
        try:
            path = odd_weights().save(tmp_path / "w.npz")
        finally:
            os.umask(before)
        assert path.stat().st_mode & 0o777 == mode

    def test_names_as_long_as_the_system_allows(self, tmp_path):
        path = tmp_path / ("w" * 251 + ".npz")
        assert np.array_equal(Weights.load(odd_weights().save(path)).values, odd_weights().values)

    @pytest.mark.slow
    def test_a_kill_leaves_one_whole_file_or_the_other(self, tmp_path):
        path = tmp_path / "w.npz"
        code = (
            "import numpy as np, itertools, sys; from weightatlas.records import Weights\n"
            "for n in itertools.count():\n"
            "    v = np.full((64, 64, 5, 5), n, np.float32)\n"
            "    Weights(v, 's', 't', np.arange(64), 64, 64).save(sys.argv[1])\n"
        )
        seen, delays = set(), np.random.default_rng(0).uniform(0, 0.02, 12)
        for delay in delays:
            path.unlink(missing_ok=True)
            child = subprocess.Popen([sys.executable, "-c", code, str(path)])
            while not path.exists():
                assert child.poll() is None
                time.sleep(0.001)
            time.sleep(delay)
            child.send_signal(signal.SIGKILL)
            child.wait()
            values = Weights.load(path).values
            assert (values == values.flat[0]).all()
            seen.add(float(values.flat[0]))
        assert len(seen) > 1  # the kills did fall at different times
