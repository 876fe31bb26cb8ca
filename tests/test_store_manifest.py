"""What an atlas says it is: newer ones are refused, older ones become what this version writes, nothing else opens."""

import json
import re

import pytest
from atlases import differences, tree
from stored import build, copied, files, put

import weightatlas as wa
from weightatlas.errors import StoreError
from weightatlas.store import check_atlas
from weightatlas.store.layout import SCHEMA
from weightatlas.store.manifest import FORMAT, MIGRATIONS, checked_identity, migrated
from weightatlas.store.sealing import document, parsed

IDENTITY = {
    "format": FORMAT, "schema": SCHEMA, "model": {"name": "net", "weights_hash": "ab"}, "input": {"shape": [3, 8, 8]}, "seed": 0,
    "gates": {"rule": "expected", "measured": True},
}  # fmt: skip


def test_what_this_version_writes_is_taken_as_it_is():
    assert migrated(IDENTITY, "x") is IDENTITY
    assert checked_identity(IDENTITY, "x") is IDENTITY


def test_a_newer_schema_is_refused_with_what_to_do():
    for schema in (SCHEMA + 1, 10**9):
        words = rf"^'x' was built by a newer weightatlas \(schema {schema}, this version reads up to {SCHEMA}\); upgrade with pip"
        with pytest.raises(StoreError, match=words):
            migrated(IDENTITY | {"schema": schema}, "x")


def test_an_older_schema_that_never_was_is_refused():
    for schema in (0, -1):
        with pytest.raises(StoreError, match=rf"has schema {schema}, which weightatlas never wrote"):
            migrated(IDENTITY | {"schema": schema}, "x")


@pytest.mark.parametrize(
    "change",
    [{"format": "other"}, {"format": None}, {"schema": "2"}, {"schema": None}, {"schema": 2.0}, {"schema": True}, {"schema": [2]}],
    ids=str,
)  # fmt: skip
def test_what_is_no_atlas_is_refused(change):
    with pytest.raises(StoreError, match="'x' is no atlas: it says format"):
        migrated(IDENTITY | change, "x")
    with pytest.raises(StoreError, match="'x' is no atlas: it says format None, schema None"):
        migrated({}, "x")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": None}, "its model"),
        ({"model": {}}, "its model.name, model.weights_hash"),
        ({"model": {"name": "net", "weights_hash": 3}}, "its model.weights_hash"),
        ({"seed": "0"}, "its seed"),
        ({"input": [], "gates": "expected"}, "its input, gates"),
        ({"gates": {"rule": None, "measured": 1}}, "its gates.rule, gates.measured"),
    ],
    ids=str,
)
def test_an_atlas_that_does_not_say_whose_it_is_is_refused(change, words):
    with pytest.raises(StoreError, match=f"^'x' is no complete atlas: it does not say {re.escape(words)}$"):
        checked_identity(IDENTITY | change, "x")
    missing = {k: v for k, v in IDENTITY.items() if k not in change}
    with pytest.raises(StoreError, match="it does not say its " + next(iter(change))):
        checked_identity(missing, "x")


def test_every_schema_leads_to_this_one():
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA))


def as_schema_1(path):
    """What version 1 wrote: gates in two entries, and no word on whether banding was measured."""
    known = parsed(files()[path], path)
    gates = known.pop("gates")
    known |= {"schema": 1, "gate": gates["rule"], "measured": gates["measured"]}
    if "coverage" in known:
        known["coverage"].pop("banding")
    return document(known, indent=1)


@pytest.fixture
def old(tmp_path):
    folder = copied(tmp_path / "atlas")
    for name in ("model.json", "atlas.json"):
        put(folder, name, as_schema_1(name))
    return folder


def test_an_atlas_of_schema_1_opens_and_is_whole(old):
    assert json.loads((old / "atlas.json").read_bytes())["schema"] == 1
    atlas = wa.Atlas(old)
    assert atlas.manifest["gates"] == {"rule": "expected", "measured": True}
    assert atlas.manifest["schema"] == SCHEMA
    assert {"gate", "measured"}.isdisjoint(atlas.manifest)
    assert atlas.unit("down:3").norm > 0
    report = check_atlas(old)
    assert report.whole, report.problems
    assert differences(tree(old), files()) == ["atlas.json", "model.json"]  # reading changes nothing


def test_a_build_brings_an_atlas_of_schema_1_to_this_one(old):
    done = []
    build(old, progress=lambda event: done.append(event.event))
    assert differences(tree(old), files()) == []
    assert "started" not in done  # nothing was made again


@pytest.mark.parametrize("name", ["model.json", "atlas.json"])
def test_one_of_the_two_may_be_of_schema_1(name, tmp_path):
    """As a kill between their writes leaves it."""
    folder = copied(tmp_path / "atlas")
    put(folder, name, as_schema_1(name))
    assert check_atlas(folder).whole
    wa.Atlas(folder)
    build(folder)
    assert differences(tree(folder), files()) == []


@pytest.mark.parametrize("name", ["model.json", "atlas.json"])
def test_a_build_refuses_a_newer_atlas_and_changes_nothing(name, tmp_path):
    folder = copied(tmp_path / "atlas")
    put(folder, name, document(parsed(files()[name], "") | {"schema": SCHEMA + 1}))
    before = tree(folder)
    with pytest.raises(StoreError, match="was built by a newer weightatlas"):
        build(folder)
    assert differences(tree(folder), before) == []
    if name == "atlas.json":
        with pytest.raises(StoreError, match=f"{re.escape(str(folder))}' was built by a newer weightatlas"):
            wa.Atlas(folder)
