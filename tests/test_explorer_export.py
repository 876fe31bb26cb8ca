"""An exported site: the bytes that are served, kept up to date, and nothing of anybody else's touched."""

import hashlib
import json
import os
from pathlib import Path

import fsspec
import pytest
from explorers import Explorer
from stored import copied, put

import weightatlas as wa
from weightatlas.errors import ArgumentError, StoreError
from weightatlas.explorer import exporting, reading
from weightatlas.explorer.exporting import Exported

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def page(tmp_path, monkeypatch):
    """A page of its own, so that these tests do not depend on the real one."""
    root = tmp_path / "page"
    (root / "explorer" / "pages").mkdir(parents=True)
    (root / "index.html").write_text("<!doctype html>")
    for name in ("main.js", "pages/unit.js", "look.css", "icon.svg", "notes.txt", ".swap.js"):
        (root / "explorer" / name).write_text(name)
    for module in (exporting, reading):
        monkeypatch.setattr(module, "SITE", root)
    monkeypatch.setattr(reading.read_own, "__defaults__", ("", root))
    return root


@pytest.fixture
def atlas(tmp_path):
    return copied(tmp_path / "atlas")


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def times(folder):
    return {p: p.stat().st_mtime_ns for p in Path(folder).rglob("*") if p.is_file()}


class TestExport:
    def test_it_is_what_is_served_byte_by_byte(self, atlas, page, tmp_path):
        made = wa.export_site(atlas, tmp_path / "site")
        found = files(tmp_path / "site")
        assert made == Exported(str(tmp_path / "site"), len(found), sum(map(len, found.values())), len(found), 0)
        own = {"index.html", "site.json", ".nojekyll"} | {
            f"explorer/{n}" for n in ("main.js", "pages/unit.js", "look.css", "icon.svg")
        }
        kept = {f"atlas/{p}" for p in files(atlas) if p != ".lock"}
        assert set(found) == own | kept
        with Explorer(atlas, site=page) as server:
            for name in set(found) - {"site.json", ".nojekyll"}:
                assert server.get("/" + name).body == found[name], name
        about = json.loads(found["site.json"])
        assert about == {
            "live": False, "version": wa.__version__,
            "can": {"pictures": False, "weights": False, "families": False, "images": False},
            "why": "This is an exported copy. To compute what is missing: weightatlas open MODEL", "recipes": [],
            "families": [], "trouble": "", "kind": "weightatlas explorer",
            "images": {
                "why": "This is an exported copy. To compute what is missing: weightatlas open MODEL",
                "bytes": 20 * 2**20, "pixels": 50_000_000,
            },
        }  # fmt: skip
        assert wa.check_atlas(tmp_path / "site" / "atlas").whole

    def test_a_second_time_only_what_has_changed_is_written_and_what_is_gone_is_removed(self, atlas, tmp_path):
        site = tmp_path / "site"
        wa.export_site(atlas, site)
        (site / "CNAME").write_text("atlas.example.org")
        (site / "atlas" / "mine.txt").write_text("mine")
        before = times(site)
        again = wa.export_site(atlas, site)
        assert (again.written, again.removed) == (0, 0)
        assert times(site) == before
        picture = next(p for p in files(atlas) if p.startswith("walls/") and p.endswith(".webp"))
        put(atlas, picture, None)
        wa.Atlas(atlas).name_family("n", "stem", [1])
        put(atlas, "banding.json", b"x" * len((atlas / "banding.json").read_bytes()))  # as long as before
        (site / "atlas" / ".banding.json.0123456789abcdef").write_text("half")
        changed = wa.export_site(atlas, site)
        assert (changed.written, changed.removed) == (3, 2)  # site.json tells of families, too
        assert not (site / "atlas" / picture).exists()
        assert files(site / "atlas")["banding.json"] == files(atlas)["banding.json"]
        assert (site / "CNAME").read_text() == "atlas.example.org"
        assert (site / "atlas" / "mine.txt").exists()

    def test_what_the_overview_tells_of_must_be_there(self, atlas, tmp_path):
        picture = next(p for p in files(atlas) if p.startswith("images/"))
        put(atlas, picture, None)
        with pytest.raises(
            StoreError, match=r"tells of 1 files that are not there, such as images/.*weightatlas check"
        ):
            wa.export_site(atlas, tmp_path / "site")
        assert not (tmp_path / "site" / "index.html").exists()

    @pytest.mark.parametrize("count", [1, 4, 40])
    def test_one_that_was_interrupted_is_no_site_and_is_completed(self, atlas, tmp_path, monkeypatch, count):
        written, write = [], exporting.atomic_write

        def interrupted(path, data):
            if len(written) == count:
                raise KeyboardInterrupt
            written.append(path)
            return write(path, data)

        monkeypatch.setattr(exporting, "atomic_write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            wa.export_site(atlas, tmp_path / "site")
        assert not (tmp_path / "site" / "index.html").exists()
        monkeypatch.setattr(exporting, "atomic_write", write)
        made = wa.export_site(atlas, tmp_path / "site")
        assert made.written == made.files - count
        assert (tmp_path / "site" / "index.html").exists()

    def test_from_a_bucket(self, atlas, tmp_path):
        system = fsspec.filesystem("memory")
        for name, data in files(atlas).items():
            system.pipe_file(f"/exported/{name}", data)
        wa.export_site("memory://exported", tmp_path / "a")
        wa.export_site(atlas, tmp_path / "b")
        system.rm("/exported", recursive=True)
        assert files(tmp_path / "a") == files(tmp_path / "b")

    def test_links_that_lead_out_of_the_atlas_are_none_of_its_files(self, atlas, tmp_path):
        (tmp_path / "secret").mkdir()
        (tmp_path / "secret" / "units.json").write_text("secret")
        put(atlas, "edges.json", None)
        (atlas / "edges.json").symlink_to(tmp_path / "secret" / "units.json")
        (atlas / "layers" / "x").symlink_to(tmp_path / "secret")
        (atlas / "banding.json").unlink()
        (atlas / "banding.json").symlink_to(atlas / "model.json")  # inside, and so a file like others
        wa.export_site(atlas, tmp_path / "site")
        assert b"secret" not in files(tmp_path / "site").values()
        assert not (tmp_path / "site" / "atlas" / "edges.json").exists()
        assert (tmp_path / "site" / "atlas" / "banding.json").read_bytes() == (atlas / "model.json").read_bytes()
        assert not (tmp_path / "site" / "atlas" / "banding.json").is_symlink()


class TestRefusals:
    def test_a_folder_of_something_else(self, atlas, tmp_path):
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "index.html").write_text("mine")
        for about in (None, "{", "[]", '{"kind": "other"}'):
            if about is not None:
                (tmp_path / "site" / "site.json").write_text(about)
            with pytest.raises(ArgumentError, match="is no earlier export; give a new or empty folder"):
                wa.export_site(atlas, tmp_path / "site")
        assert (tmp_path / "site" / "index.html").read_text() == "mine"
        with pytest.raises(ArgumentError, match="is a file"):
            wa.export_site(atlas, tmp_path / "site" / "index.html")

    def test_links_in_an_earlier_export_lead_nowhere(self, atlas, tmp_path):
        wa.export_site(atlas, tmp_path / "site")
        (tmp_path / "other").mkdir()
        os.rename(tmp_path / "site" / "atlas" / "walls", tmp_path / "walls")
        (tmp_path / "site" / "atlas" / "walls").symlink_to(tmp_path / "other")
        with pytest.raises(ArgumentError, match="leads elsewhere"):
            wa.export_site(atlas, tmp_path / "site")
        (tmp_path / "site" / "atlas" / "walls").unlink()
        (tmp_path / "secret").write_text("mine")
        (tmp_path / "site" / "atlas" / "model.json").unlink()
        (tmp_path / "site" / "atlas" / "model.json").symlink_to(tmp_path / "secret")
        wa.export_site(atlas, tmp_path / "site")
        assert (tmp_path / "secret").read_text() == "mine"
        assert files(tmp_path / "site")["atlas/model.json"] == files(atlas)["model.json"]

    @pytest.mark.parametrize("place", ["atlas", "atlas/site", ".", "link/site"])
    def test_atlas_and_site_in_one_another(self, atlas, tmp_path, place):
        (tmp_path / "link").symlink_to(atlas)
        digest = hashlib.sha256(repr(sorted(files(atlas).items())).encode()).digest()
        with pytest.raises(ArgumentError, match="must not lie in one another"):
            wa.export_site(atlas, tmp_path / place)
        assert hashlib.sha256(repr(sorted(files(atlas).items())).encode()).digest() == digest

    def test_no_atlas_or_one_without_an_overview(self, atlas, tmp_path):
        with pytest.raises(StoreError, match="weightatlas build MODEL -o"):
            wa.export_site(tmp_path / "none", tmp_path / "site")
        put(atlas, "atlas.json", None)
        with pytest.raises(StoreError, match="has no overview yet; build it again"):
            wa.export_site(atlas, tmp_path / "site")
        assert not (tmp_path / "site").exists()
