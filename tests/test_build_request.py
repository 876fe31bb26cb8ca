"""What is asked of a build: names, patterns, units, recipes and sizes, and how a request is kept."""

import fnmatch
import json

import pytest
import torch
from atlases import LAYERS, QUICK, opened, recipe_name
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import weightatlas as wa
from weightatlas.builder.jobs.asking import Asked
from weightatlas.builder.jobs.request import BATCH, BUDGET, Request, parsed_size, requested
from weightatlas.errors import ArgumentError, StoreError, UnknownNameError

pytestmark = pytest.mark.usefixtures("one_thread")
WIDTHS = dict(zip(LAYERS, [6, 6, 6, 7, 5], strict=True))


class Level(nn.Module):
    def forward(self, x):
        return x.mean()


class Levelled(nn.Module):
    """A network one of whose layers puts out a single number."""

    def __init__(self):
        super().__init__()
        self.conv, self.level = nn.Conv2d(3, 4, 3), Level()

    def forward(self, x):
        x = self.conv(x)
        return x - self.level(x)


@pytest.fixture(scope="module")
def net():
    return opened()


class TestLayers:
    def test_without_any_all_that_an_atlas_shows(self, net):
        assert requested(net) == Request(tuple(LAYERS), {}, ("quick", "display"), {}, (), BUDGET, 8)

    @settings(max_examples=30, deadline=None)
    @given(pattern=st.sampled_from(["*", "blocks.*", "blocks.?", "blocks.[01]", "*d*", "s*", "*.0", "h[!e]*", "?????"]))
    def test_patterns_are_matched_with_the_layers_that_are_shown(self, net, pattern):
        matching = [n for n in LAYERS if fnmatch.fnmatchcase(n, pattern)]
        if matching:
            assert list(requested(net, pattern).layers) == matching
        else:
            with pytest.raises(UnknownNameError, match="no layer like"):
                requested(net, pattern)

    def test_names_are_taken_whatever_they_are_once_and_in_order_of_execution(self, net):
        asked = requested(net, ["head", "blocks.0.act", "blocks.*", "stem", "head"])
        assert asked.layers == ("stem", "blocks.0.act", "blocks.0", "blocks.1", "head")
        assert requested(net, iter(["stem"])).layers == requested(net, "stem").layers == ("stem",)

    def test_a_name_that_looks_like_a_pattern_is_a_name(self):
        module = nn.ModuleDict({"a[0]": nn.Conv2d(3, 4, 3)})
        module.forward = lambda x: module["a[0]"](x)
        assert requested(wa.load(module, input=wa.InputSpec(shape=(3, 9, 9))), "a[0]").layers == ("a[0]",)

    def test_refusals_name_what_there_is(self, net):
        for layers, error, words in [
            ("blokcs.0", UnknownNameError, "nearest: 'blocks.0', 'blocks.1'"),
            (["blocks.*", "zz*"], UnknownNameError, "no layer like 'zz\\*'; there are: 'stem'"),
            ([], ArgumentError, "none was named"),
            (3, ArgumentError, "names or patterns .*not 3"),
            (["stem", 3], ArgumentError, "names or patterns .*not 3"),
        ]:
            with pytest.raises(error, match=words):
                requested(net, layers)

    def test_a_layer_without_units_is_refused_before_anything_is_begun(self, tmp_path):
        torch.manual_seed(0)
        net = wa.load(Levelled().eval(), input=wa.InputSpec(shape=(3, 12, 12)))
        with pytest.raises(ArgumentError, match="'level' has none"):
            wa.build(net, tmp_path / "atlas", layers=["conv", "level"])
        assert not (tmp_path / "atlas").exists()


class TestUnits:
    @settings(max_examples=40, deadline=None)
    @given(numbers=st.lists(st.integers(0, 6), min_size=1))
    def test_numbers_hold_for_every_layer_that_has_them(self, net, numbers):
        asked = requested(net, units=iter(numbers))
        for layer, width in WIDTHS.items():
            assert list(asked.units_of(layer, width)) == sorted({n for n in numbers if n < width})

    def test_a_mapping_names_them_by_layer_and_leaves_the_others_whole(self, net):
        asked = requested(net, units={"stem": [3, 1, 1], "head": range(2)})
        assert asked.units == {"stem": (1, 3), "head": (0, 1)}
        assert asked.units_of("down", 7) == tuple(range(7))
        assert asked.wants("stem", [1, 3])
        assert not asked.wants("stem", [1, 2])
        assert asked.wants("down", [5])

    @pytest.mark.parametrize(
        ("units", "error", "words"),
        [
            ([7], UnknownNameError, "no unit 7; its 7 units are 0 … 6"),
            ([-1], UnknownNameError, "no unit -1"),
            ([], ArgumentError, "no unit of the widest"),
            (3, ArgumentError, "integers like"),
            ("3", ArgumentError, "integers like"),
            ([1.5], ArgumentError, "integers like"),
            ([True, False], ArgumentError, "integers like"),
            ({"steam": [1]}, UnknownNameError, "nearest: 'stem'"),
            ({"blocks.0.act": [1]}, UnknownNameError, "among those of this build"),
            ({"stem": [6]}, UnknownNameError, "'stem' has no unit 6"),
            ({"stem": []}, ArgumentError, "no unit of layer 'stem'"),
            ({"stem": None, "head": 3}, ArgumentError, "integers like"),
        ],
    )
    def test_refusals(self, net, units, error, words):
        with pytest.raises(error, match=words):
            requested(net, units=units)


class TestRecipes:
    def test_styles_and_variants(self, net):
        asked = requested(net, recipes=["positions", "max.diverse", "quick", "display.positions"])
        assert asked.recipes == ("display.positions", "max.diverse", "quick")  # each once, as they came
        assert requested(net, recipes="quick").recipes == ("quick",)
        assert requested(net, recipes=[]).recipes == ()

    def test_recipes_of_ones_own_are_named_by_their_settings(self, net):
        one = requested(net, recipes=QUICK)
        assert one.recipes == (recipe_name(QUICK),)
        assert wa.Recipe(**one.own[recipe_name(QUICK)]) == QUICK
        other = QUICK.but(steps=3)
        assert recipe_name(other) != recipe_name(QUICK) == recipe_name(wa.Recipe(**QUICK.to_dict()))
        both = requested(net, recipes=[QUICK, other, QUICK, f"{recipe_name(QUICK)}.negative"])
        assert both.recipes == (recipe_name(QUICK), recipe_name(other), f"{recipe_name(QUICK)}.negative")

    @pytest.mark.parametrize(
        ("recipes", "error", "words"),
        [
            ("quik", UnknownNameError, "nearest: 'quick'"),
            ("quick.positons", UnknownNameError, "nearest: 'quick.positions'"),
            ("quick.negative.more", UnknownNameError, "no recipe"),
            ("own-00000000", UnknownNameError, "no recipe"),
            (["quick", 3], ArgumentError, "names and Recipe objects, not 3"),
            (3, ArgumentError, "names and Recipe objects, not 3"),
        ],
    )
    def test_refusals(self, net, recipes, error, words):
        with pytest.raises(error, match=words):
            requested(net, recipes=recipes)


class TestSizes:
    def test_powers_of_ten_and_of_two(self):
        for text, size in [
            (0, 0),
            (1234, 1234),
            ("1234", 1234),
            ("3 b", 3),
            ("20MB", 20_000_000),
            (" 1.5 GiB ", 3 * 2**29),
            ("1 kb", 1000),
            ("1 KiB", 1024),
            ("2tib", 2**41),
            ("0.5 TB", 500_000_000_000),
        ]:
            assert parsed_size(text) == size

    @given(number=st.integers(0, 10**15))
    def test_whole_numbers_are_exact(self, number):
        assert parsed_size(number) == parsed_size(str(number)) == number
        assert parsed_size(f"{number} KiB") == number * 1024

    @pytest.mark.parametrize("wrong", ["", "x", "-1", -1, "1 2", "1e9", "1 PB", True, None, "1..5", "9" * 5000])
    def test_refusals(self, net, wrong):
        with pytest.raises(ArgumentError, match="no size in bytes"):
            parsed_size(wrong)


def test_pictures_in_a_job_depend_on_where_they_are_made(net):
    assert {d: requested(net, device=d).batch for d in (None, "cpu", "cuda:1")} == {
        None: BATCH["cpu"],
        "cpu": BATCH["cpu"],
        "cuda:1": BATCH["cuda"],
    }
    assert requested(net, batch=3).batch == 3
    for wrong in (0, -1, True, 2.0, "3"):
        with pytest.raises(ArgumentError, match="at least 1"):
            requested(net, batch=wrong)


def test_pairs(net):
    found = requested(net, pairs=[("stem", "head"), ["input", "down"], ("stem", "head")]).pairs
    assert found == (("stem", "head"), ("input", "down"))
    for wrong in (3, ["stem"], [("stem",)], [("a", "b", "c")], [3], "ab"):
        with pytest.raises(ArgumentError, match="pairs="):
            requested(net, pairs=wrong)
    with pytest.raises(UnknownNameError, match="nearest: 'down'"):
        requested(net, pairs=[("stem", "dwn")])


words = st.text(min_size=1, max_size=8)
numbers = st.lists(st.integers(0, 99), max_size=4).map(lambda n: tuple(sorted(set(n))))


@given(
    asked=st.builds(
        Request,
        layers=st.lists(words, max_size=4).map(tuple),
        units=st.dictionaries(words, numbers, max_size=3),
        recipes=st.lists(words, max_size=3).map(tuple),
        own=st.dictionaries(words, st.just(QUICK.to_dict()), max_size=2),
        pairs=st.lists(st.tuples(words, words), max_size=3).map(tuple),
        budget=st.integers(0, 2**60),
        batch=st.integers(1, 99),
    )
)
def test_a_request_comes_back_from_json_as_it_was(asked):
    assert Request.from_dict(json.loads(json.dumps(asked.to_dict()))) == asked


def test_what_is_no_request_is_refused():
    for wrong in (
        {},
        {"layers": 3},
        {"layers": [], "units": 3},
        {"layers": [], "pairs": [3]},
        {"layers": [], "units": [3]},
    ):
        with pytest.raises(StoreError, match="cannot be read"):
            Request.from_dict(wrong)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"only": "wights"}, UnknownNameError, "nearest: 'weights'"),
        ({"only": []}, ArgumentError, "names nothing"),
        ({"only": 3}, ArgumentError, "kinds of jobs and recipes, not 3"),
        ({"seed": -1}, ArgumentError, "seed=-1"),
        ({"seed": True}, ArgumentError, "seed=True"),
        ({"gate": "nonsense"}, ArgumentError, "'expected'"),
        ({"gate": float("nan")}, ArgumentError, "finite"),
        ({"gate": {"act": 1}}, ArgumentError, "a name or a number"),
        ({"gate": "measured"}, ArgumentError, "needs statistics"),
        ({"device": "nowhere"}, ArgumentError, "cannot be used"),
        ({"images": []}, ArgumentError, "no image"),
        ({"pairs": 3}, ArgumentError, "pairs="),
        ({"executor": 0}, ArgumentError, "no number of workers"),
        ({"executor": True}, ArgumentError, "no number of workers"),
        ({"executor": 1.5}, ArgumentError, "no number of workers"),
    ],
)
def test_a_build_refuses_arguments_before_it_begins_a_folder(net, tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        wa.build(net, tmp_path / "atlas", **options)
    assert not (tmp_path / "atlas").exists()


def test_places_that_are_none_are_refused(net):
    for wrong in (3, "", None):
        with pytest.raises(ArgumentError, match="a folder or at a URL"):
            wa.build(net, wrong)


def test_what_is_asked_without_words_is_what_was_asked_before(net, tmp_path):
    assert Asked.of(net, tmp_path).request is None
    assert Asked.of(net, tmp_path, images=None, only="weights", force=True, seed=1).request is None
    assert Asked.of(net, tmp_path, pairs=None).request is None
    assert Asked.of(net, tmp_path, recipes=[]).request is not None
    assert Asked.of(net, tmp_path, batch=8).request == requested(net)


def test_a_checkpoint_without_architecture_is_refused(tmp_path):
    torch.save({"a.weight": torch.zeros(3, 2, 1, 1)}, tmp_path / "bare.pt")
    with pytest.raises(ArgumentError, match="needs the architecture"):
        wa.build(wa.load(tmp_path / "bare.pt"), tmp_path / "atlas")
