"""Requests of single pictures and of pairs alone, as readers of an atlas make them: noted together, planned apart."""

import pytest
from atlases import opened

import weightatlas as wa
from weightatlas.builder.jobs import drafting
from weightatlas.builder.jobs.context import Settings
from weightatlas.builder.jobs.drafting import kept_bytes
from weightatlas.builder.jobs.planning import planned
from weightatlas.builder.jobs.request import requested
from weightatlas.errors import ArgumentError
from weightatlas.store import layout

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def net():
    return opened()


def single(net, layer, units, recipe="quick", **more):
    return requested(net, [layer], {layer: units}, [recipe], batch=1, **more)


def jobs(net, *requests):
    plan = planned(net, requests, Settings(net.weights_hash), None, False)
    return {job.name: job.makes for job in plan.jobs}


class TestJoined:
    def test_two_requests_of_single_pictures_are_one_with_the_same_jobs(self, net):
        one, other = single(net, "stem", [3, 1]), single(net, "down", [5])
        third = single(net, "stem", [2, 3])
        joined = one.joined(other).joined(third)
        assert joined.units == {"stem": (1, 2, 3), "down": (5,)}
        assert jobs(net, joined) == jobs(net, one, other, third)
        assert joined.to_dict() == type(joined).from_dict(joined.to_dict()).to_dict()

    def test_pairs_alone_are_joined_too(self, net):
        whole = requested(net, ["stem", "head", "blocks.0"], recipes=[])
        pairs = [("stem", "head"), ("input", "blocks.0")]
        one, other = (requested(net, [], recipes=[], pairs=[pair], batch=1) for pair in pairs)
        joined = one.joined(other)
        assert joined.pairs == tuple(pairs)
        assert jobs(net, whole, joined) == jobs(net, whole, one, other)

    def test_nothing_else_is(self, net):
        one = single(net, "stem", [1])
        for other in (
            single(net, "stem", [1], "display"),
            requested(net, ["stem"], {"stem": [2]}, ["quick"], batch=2),
            requested(net, ["stem"], None, ["quick"], batch=1),
            requested(net, ["stem", "down"], {"stem": [1]}, ["quick"], batch=1),
        ):
            assert one.joined(other) is None
            assert other.joined(one) is None

    def test_what_is_asked_for_already_is_covered(self, net):
        every = requested(net, ["stem", "down"], recipes=["quick", "negative"])
        some = requested(net, ["stem"], [0, 1, 2], ["quick"], pairs=[("stem", "head")])
        assert every.covers(single(net, "stem", [5]))
        assert every.covers(single(net, "down", [6], "negative"))
        assert some.covers(single(net, "stem", [0, 2]))
        assert some.covers(requested(net, [], recipes=[], pairs=[("stem", "head")], batch=1))
        for other in (
            single(net, "stem", [5], "display"), single(net, "head", [0]), single(net, "stem", [1], budget="2 GiB"),
            requested(net, [], recipes=[], pairs=[("stem", "down")], batch=1),
        ):  # fmt: skip
            assert not every.covers(other)
        assert not some.covers(single(net, "stem", [3]))

    def test_layers_may_be_none_only_with_pairs(self, net):
        with pytest.raises(ArgumentError, match="none was named"):
            requested(net, [], recipes=["quick"])


class TestBuild:
    def requests(self, folder):
        return wa.Atlas(folder).manifest["requests"]

    def test_many_readers_leave_one_request_a_recipe(self, net, tmp_path):
        wa.build(net, tmp_path, layers=["stem", "down"], units=[0], recipes=["quick"], only="weights", budget="1 MB")
        first = self.requests(tmp_path)
        for layer, unit in (("stem", 0), ("stem", 4), ("down", 2), ("stem", 4), ("down", 6)):
            wa.build(net, tmp_path, layers=[layer], units={layer: [unit]}, recipes=["quick"], only=["quick"], batch=1,
                     budget="1 MB")  # fmt: skip
        wa.build(net, tmp_path, layers=["stem"], units=[3], recipes=["max"], only=["max"], batch=1, budget="1 MB")
        found = self.requests(tmp_path)
        assert found[:1] == first
        assert [r["units"] for r in found[1:]] == [{"stem": [4], "down": [2, 6]}, {"stem": [3]}]
        assert wa.Atlas(tmp_path).coverage["pictures"] == {"quick": [4, 5], "max": [1, 1]}
        assert not (tmp_path / layout.picture_path("down", "quick", 0)).exists()  # nobody asked for that now

    def test_a_covered_picture_is_made_alone_and_as_it_would_be(self, net, tmp_path):
        wa.build(net, tmp_path / "a", layers=["stem"], recipes=["quick"], only="weights")
        wa.build(net, tmp_path / "a", layers=["stem"], units=[4], recipes=["quick"], only=["quick"], batch=1)
        path = layout.picture_path("stem", "quick", 4)
        assert len(self.requests(tmp_path / "a")) == 1
        assert wa.Atlas(tmp_path / "a").coverage["pictures"]["quick"] == [1, 6]
        wa.build(net, tmp_path / "b", layers=["stem"], units=[4], recipes=["quick"], batch=1)
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()
        wa.build(net, tmp_path / "a")
        assert wa.Atlas(tmp_path / "a").coverage["pictures"]["quick"] == [6, 6]

    def test_a_pair_alone_is_made_and_no_other_weights(self, net, tmp_path):
        layers = ["stem", "blocks.0", "blocks.1", "down", "head"]
        wa.build(net, tmp_path, layers=layers, recipes=["quick"], only="banding")
        wa.build(net, tmp_path, layers=[], recipes=[], pairs=[("stem", "head")], only=["weights"], batch=1)
        made = [(p["source"], p["target"]) for p in wa.Atlas(tmp_path).manifest["pairs"] if p["made"]]
        assert made == [("stem", "head")]

    def test_what_the_budget_left_out_is_made_when_it_is_asked_for(self, net, tmp_path):
        wa.build(net, tmp_path, layers=["blocks.1", "head"], recipes=["quick"], only="weights", budget="5 kB")
        assert [(p["source"], p["target"]) for p in wa.Atlas(tmp_path).manifest["left_out"]] == [("blocks.1", "head")]
        wa.build(net, tmp_path, layers=[], recipes=[], pairs=[("blocks.1", "head")], only=["weights"], budget="5 kB")
        assert wa.Atlas(tmp_path).pair("blocks.1", "head")["made"]
        assert wa.Atlas(tmp_path).manifest["left_out"] == []

    def test_shapes_are_found_out_once(self, net, monkeypatch):
        request = requested(net, recipes=["quick"])
        before = planned(net, [request], Settings(net.weights_hash), None, False)
        sizes = {pair.name: pair.bytes for pair in before.wanted.pairs}
        monkeypatch.setattr(drafting, "between", None)
        again = planned(net, [request], Settings(net.weights_hash), None, False)
        assert again == before
        assert sizes["blocks.0 ← stem"] == kept_bytes(net, "stem", "blocks.0")
