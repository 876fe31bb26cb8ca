"""What figures of weights between pictures refuse, and that the message names what came in."""

import dataclasses

import numpy as np
import pytest
from planted import HOSTILE, factors, parse, weights
from test_figures_context import (
    LAYER,
    directions,
    grouped_unit,
    loop_power,
    pictures,
    planted_paths,
)

import weightatlas as wa
from weightatlas.errors import ArgumentError, UnknownNameError, WeightAtlasError, WeightValuesError
from weightatlas.figures import wording
from weightatlas.figures.gallery import Gallery
from weightatlas.records import Agreement

figures = wa.figures


def of_a_target(target, w=None):
    """Every figure of one target unit."""
    w = w or weights()
    return {
        "connection": lambda: figures.connection(w, source=0, target=target),
        "multiples": lambda: figures.small_multiples(w, target=target),
        "given multiples": lambda: figures.small_multiples(w, target=target, sources=[0]),
        "family": lambda: figures.family_grid(w, targets=[target], sources=[0]),
        "places": lambda: figures.drawn_places(w, target),
        "positions": lambda: figures.spatial_positions(w, pictures("in", [0]), target=target, places=[(0, 0)]),
        "expanded": lambda: figures.expanded(w, target=target),
        "card": lambda: figures.neuron_card(w, target=target),
    }


def of_a_source(source, w=None):
    """Every figure of named source units."""
    w = w or weights()
    return {
        "connection": lambda: figures.connection(w, source=source, target=0),
        "multiples": lambda: figures.small_multiples(w, target=0, sources=[1, source]),
        "family": lambda: figures.family_grid(w, targets=[0], sources=[source]),
    }


TARGETED, SOURCED = list(of_a_target(0)), list(of_a_source(0))


class TestUnits:
    @pytest.mark.parametrize("kind", TARGETED)
    @pytest.mark.parametrize(
        ("target", "error", "words"),
        [
            (6, UnknownNameError, "layer 'conv' has no unit 6"),
            (-1, UnknownNameError, "no unit -1"),
            ("conv:17", UnknownNameError, "no unit 17"),
            ("other:1", ArgumentError, "target='other:1' is no unit of 'conv'"),
            ("in:1", ArgumentError, "target='in:1' is no unit of 'conv'"),
            ("conv", ArgumentError, "target='conv' is no unit; units are named like conv:0"),
            ("conv:", ArgumentError, "target='conv:' is no unit"),
            ("conv:-1", ArgumentError, "target='conv:-1' is no unit"),
            ("conv:٣", ArgumentError, "is no unit"),
            ("", ArgumentError, "target='' is no unit"),
            (1.0, ArgumentError, r"must be integers like .*, not \[1.0\]"),
            (True, ArgumentError, r"not \[True\]"),
            (None, ArgumentError, r"not \[None\]"),
        ],
    )
    def test_targets(self, kind, target, error, words):
        with pytest.raises(error, match=words):
            of_a_target(target)[kind]()

    @pytest.mark.parametrize("kind", SOURCED)
    @pytest.mark.parametrize(
        ("source", "error", "words"),
        [
            (4, UnknownNameError, "layer 'in' has no unit 4"),
            ("in:4", UnknownNameError, "no unit 4"),
            ("conv:1", ArgumentError, "source='conv:1' is no unit of 'in'"),
            (0.5, ArgumentError, r"not \[0.5\]"),
            (np.bool_(True), ArgumentError, "must be integers"),
        ],
    )
    def test_sources(self, kind, source, error, words):
        with pytest.raises(error, match=words):
            of_a_source(source)[kind]()

    def test_units_that_the_layer_has_but_the_weights_have_not(self):
        w = weights(o=2, units=np.array([3, 8]), target_units=10, source_numbers=np.array([9, 2, 14, 5]))
        for make in of_a_target(5, w).values():
            with pytest.raises(ArgumentError, match="target unit 5 of 'conv' is not among the 2 in these weights"):
                make()
        with pytest.raises(ArgumentError, match="source unit 3 of 'in' is not among the 4 in these weights"):
            figures.connection(w, source=3, target=8)
        assert figures.connection(w, source=14, target=8).data["source"] == 14

    def test_no_units_at_all(self):
        w = weights()
        with pytest.raises(ArgumentError, match="no target was given"):
            figures.family_grid(w, targets=[], sources=[0])
        with pytest.raises(ArgumentError, match="no source was given"):
            figures.family_grid(w, targets=[0], sources=[])
        with pytest.raises(ArgumentError, match="no source was given"):
            figures.small_multiples(w, target=0, sources=[])
        with pytest.raises(ArgumentError, match="no unit of layer 'conv'"):
            figures.weight_factors(directions(), units=[])

    def test_more_units_than_a_grid_holds(self):
        w = weights(o=65, i=65, h=1, w=1)
        assert figures.family_grid(w, targets=range(64), sources=range(64)).data["maps"].shape == (64, 64, 1, 1)
        with pytest.raises(ArgumentError, match="65 × 2 units is more than 64"):
            figures.family_grid(w, targets=range(65), sources=[0, 1])
        with pytest.raises(ArgumentError, match="1 × 65 units is more than 64"):
            figures.family_grid(w, targets=[0], sources=range(65))
        assert len(figures.family_grid(w, targets=[0] * 70, sources=[1]).data["targets"]) == 1

    @pytest.mark.parametrize("name", HOSTILE, ids=lambda n: ascii(n)[:20])
    def test_layers_of_any_name_have_addresses(self, name):
        assert wording.unit_of(f"{name}:2", name, np.arange(3), "target") == 2
        for wrong in (f"{name}x:2", f"{name}:2:2", name):
            with pytest.raises(ArgumentError, match="is no unit"):
                wording.unit_of(wrong, name, np.arange(3), "target")

    def test_of_paths(self):
        paths = planted_paths(source_numbers=np.array([8, 3, 5]))
        for more, error, words in (
            (dict(target=2, source=3), UnknownNameError, "'conv' has no unit 2"),
            (dict(target="mid:1", source=3), ArgumentError, "target='mid:1' is no unit of 'conv'"),
            (dict(target=0, source=4), ArgumentError, "source unit 4 of 'in' is not among the 3"),
            (dict(target=0, source="conv:3"), ArgumentError, "source='conv:3' is no unit of 'in'"),
            (dict(target=0, source=9), UnknownNameError, "no unit 9"),
        ):
            with pytest.raises(error, match=words):
                figures.cancellation(paths, **more)

    def test_of_factors(self):
        f = directions(units=np.arange(10, 16))
        for units in ([16], [0], [10, 99]):
            with pytest.raises(ArgumentError, match=f"unit {units[-1]} of 'conv' is not among the 6"):
                figures.weight_factors(f, units=units)
        with pytest.raises(ArgumentError, match="must be integers"):
            figures.weight_factors(f, units=[10.5])
        assert figures.weight_factors(f, units=[15, 11]).data["units"].tolist() == [15, 11]


class TestNumbers:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("kind", TARGETED)
    def test_a_unit_whose_weights_are_no_numbers(self, bad, kind):
        w = weights()
        w.values[4, 2, 1, 1] = bad
        with pytest.raises(WeightValuesError, match="conv:4"):
            of_a_target(4, w)[kind]()

    @pytest.mark.parametrize("kind", TARGETED)
    def test_in_other_units_they_are_no_problem(self, kind):
        w = weights()
        clean = of_a_target(2, weights())[kind]()
        w.values[4] = np.nan
        w.values[0, 1] = np.inf
        made = of_a_target(2, w)[kind]()
        assert made == clean if kind == "places" else made.svg() == clean.svg()

    def test_in_one_unit_of_a_family(self):
        w = weights()
        w.values[4] = np.nan
        with pytest.raises(WeightValuesError, match="conv:4"):
            figures.family_grid(w, targets=[0, 4, 1], sources=[0])
        assert np.isfinite(figures.family_grid(w, targets=[0, 1], sources=[0]).data["maps"]).all()

    def test_of_factors(self):
        space, channels = directions(), directions()
        space.space[2, 0, 0, 1] = np.nan
        channels.channels[1, 1] = np.inf
        with pytest.raises(WeightValuesError, match="factors of conv hold NaN or infinity"):
            figures.weight_factors(space)
        assert np.isfinite(figures.weight_factors(space, units=[0, 1]).data["maps"]).all()
        with pytest.raises(WeightValuesError, match="factors of conv hold NaN or infinity"):
            figures.factor_equation(channels)

    def test_of_paths(self):
        paths = planted_paths()
        paths.through[1, 0, 0, 0] = np.nan
        with pytest.raises(WeightValuesError, match="paths from in:0 to conv:1 hold NaN or infinity"):
            figures.cancellation(paths, target=1, source=0)
        assert np.isfinite(figures.cancellation(paths, target=1, source=1).data["sums"]).all()
        paths.absolute[0, 2, 1, 1] = np.inf
        with pytest.raises(WeightValuesError, match="paths from in:2 to conv:0"):
            figures.cancellation(paths, target=0, source=2)

    def test_of_what_reads_the_unit(self):
        out = weights(o=3, i=6, source="conv", target="next")
        out.values[1, 2] = np.nan
        with pytest.raises(WeightValuesError, match="next:1"):
            figures.neuron_card(weights(), outputs=out, target=2)

    def test_units_without_any_weight(self):
        w = weights()
        w.values[3] = 0
        for kind, words in (
            ("multiples", "nothing weighs on conv:3"),
            ("places", "conv:3 has no weights from in"),
            ("expanded", "conv:3 reads nothing in in"),
            ("card", "conv:3 reads nothing in in"),
        ):
            with pytest.raises(ArgumentError, match=f"^{words}"):
                of_a_target(3, w)[kind]()
        for by, words in (
            ("both", "nothing weighs on"),
            ("excite", "nothing excites"),
            ("inhibit", "nothing inhibits"),
        ):
            with pytest.raises(ArgumentError, match=f"{words} conv:3"):
                figures.small_multiples(w, target=3, by=by)
        for kind in ("connection", "given multiples", "family"):  # these were asked for by name
            figure = of_a_target(3, w)[kind]()
            assert figure.data["share"] == figure.data["scale"] == 0
            parse(figure)

    def test_an_address_without_any_weight_is_named_once(self):
        w = weights(values=np.zeros((6, 4, 3, 3)))
        with pytest.raises(ArgumentError, match=r"^conv:3 has no weights from in"):
            figures.drawn_places(w, "conv:3")

    def test_units_that_only_excite(self):
        w = weights(values=np.ones((6, 4, 3, 3)))
        with pytest.raises(ArgumentError, match="nothing inhibits conv:1"):
            figures.small_multiples(w, target=1, by="inhibit")
        assert figures.small_multiples(w, target=1, by="excite").data["rows"] == [4]

    def test_units_without_a_path_between_them(self):
        paths = planted_paths()
        paths.inner[:, 1] = 0
        for values in (paths.through, paths.absolute, paths.total):
            values[:, 1] = 0
        with pytest.raises(ArgumentError, match="no path leads from in:1 to conv:0 through mid"):
            figures.cancellation(paths, target=0, source=1)
        assert figures.cancellation(paths, target=0, source=0).data["rows"]


def counted(k):
    """Every figure that is told how many to show."""
    f, paths = directions(), planted_paths()
    return {
        "multiples": lambda: figures.small_multiples(weights(), target=0, k=k),
        "both signs": lambda: figures.small_multiples(weights(), target=0, k=k, by="both"),
        "expanded": lambda: figures.expanded(weights(), target=0, k=k),
        "equation": lambda: figures.factor_equation(f, k=k),
        "cancellation": lambda: figures.cancellation(paths, target=0, source=0, k=k),
        "card": lambda: figures.neuron_card(weights(), target=0, k=k),
    }


class TestChoices:
    @pytest.mark.parametrize("kind", list(counted(1)))
    @pytest.mark.parametrize("k", [0, -3, 1.5, "2", None])
    def test_how_many(self, kind, k):
        with pytest.raises(ArgumentError, match=f"k={k!r} is no number of"):
            counted(k)[kind]()

    @pytest.mark.parametrize("kind", list(counted(1)))
    def test_any_integer_will_do(self, kind):
        one, other = counted(2)[kind](), counted(np.int32(2))[kind]()
        assert one.svg() == other.svg()
        assert one.svg() != counted(1)[kind]().svg()

    def test_true_is_no_number(self):
        for make in counted(True).values():
            with pytest.raises(ArgumentError, match="k=True is no number of"):
                make()

    @pytest.mark.parametrize("palette", ["jet", "", None])
    def test_palettes(self, palette):
        w, (one, own), paths = weights(), grouped_unit(), planted_paths()
        for make in (
            lambda: figures.connection(w, source=0, target=0, palette=palette),
            lambda: figures.small_multiples(w, target=0, palette=palette),
            lambda: figures.family_grid(w, targets=[0], sources=[0], palette=palette),
            lambda: figures.weight_factors(directions(), palette=palette),
            lambda: figures.expanded(one, factors=own, target=7, palette=palette),
            lambda: figures.cancellation(paths, target=0, source=0, palette=palette),
            lambda: figures.neuron_card(w, target=0, palette=palette),
        ):
            with pytest.raises(ArgumentError, match=f"palette={palette!r} is none of 'classic', 'colorblind'"):
                make()

    def test_orders_and_strengths(self):
        for order in ("angles", "", None, 1):
            with pytest.raises(ArgumentError, match=f"order={order!r} is none of 'given', 'similarity', 'angle'"):
                figures.family_grid(weights(), targets=[0], sources=[0], order=order)
        for by in ("sum", "L2", None):
            with pytest.raises(ArgumentError, match=f"by={by!r} is none of 'l2', 'excite', 'inhibit', 'both'"):
                figures.small_multiples(weights(), target=0, by=by)


class TestPictures:
    @pytest.mark.parametrize("count", [0, 2, 4])
    def test_of_factors_there_must_be_as_many_as_factors(self, count):
        made = pictures("in", range(4)).select(range(count))
        w, own = grouped_unit()
        for make in (
            lambda: figures.weight_factors(directions(), made),
            lambda: figures.factor_equation(directions(), made),
            lambda: figures.neuron_card(weights(), factors=directions(o=1, i=4), factor_images=made, target=0).svg(),
        ):
            with pytest.raises(ArgumentError, match=f"{count} pictures came in for 3 factors"):
                make()
        if count != own.rank:
            with pytest.raises(ArgumentError, match=f"{count} pictures came in for 2 factors"):
                figures.expanded(w, factors=own, factor_images=made, target=7)

    def test_of_positions_there_must_be_as_many_as_places(self):
        w = weights()
        assert len(figures.drawn_places(w, 0)) == 9
        for count, places in ((8, None), (10, None), (1, [(0, 0), (1, 1)]), (2, [(2, 2)])):
            made = pictures("in", range(count))
            with pytest.raises(
                ArgumentError, match=f"{count} pictures came in for {9 if places is None else len(places)}"
            ):
                figures.spatial_positions(w, made, target=0, places=places)
            with pytest.raises(ArgumentError, match=f"{count} pictures came in for"):
                figures.neuron_card(w, positions=made, places=places, target=0).svg()

    @pytest.mark.parametrize("places", [[(0, 0), (3, 0)], [(0, -1), (0, 0)], [(0, 3), (0, 0)], [(1, 1), (1, 1)]])
    def test_places_are_each_once_on_the_map(self, places):
        with pytest.raises(ArgumentError, match="places must each be once on the 3 × 3 map"):
            figures.spatial_positions(weights(), pictures("in", [0, 1]), target=0, places=places)

    def test_the_place_that_is_outside_is_named(self):
        with pytest.raises(ArgumentError, match=r"not \(7, 1\)"):
            figures.spatial_positions(weights(), pictures("in", [0, 1]), target=0, places=[(0, 0), (7, 1)])

    @pytest.mark.parametrize("images", ["conv", [1], [pictures("in", [0]), "x"], {"in": np.zeros((1, 4, 4, 3))}])
    def test_images_of_another_kind(self, images):
        for make in (
            lambda: Gallery(images),
            lambda: figures.small_multiples(weights(), images, target=0),
            lambda: figures.weight_factors(directions(), None, images),
            lambda: figures.cancellation(planted_paths(), images, target=0, source=0),
        ):
            with pytest.raises(ArgumentError, match=r"images must be FeatureImages.*not (str|int|ndarray)"):
                make()

    def test_images_that_are_not_even_several(self):
        with pytest.raises(ArgumentError, match="not int"):
            Gallery(3)


class TestOtherRecords:
    def test_agreement_between_other_layers(self):
        w = weights()
        other = Agreement(np.arange(6), np.ones(6), np.zeros(6, np.int64), 1, "in", "elsewhere")
        for make in (
            lambda: figures.connection(w, source=0, target=0, agreement=other),
            lambda: figures.small_multiples(w, target=0, agreement=other),
            lambda: figures.family_grid(w, targets=[0], sources=[0], agreement=other),
            lambda: figures.expanded(w, target=0, agreement=other),
            lambda: figures.neuron_card(w, target=0, agreement=other),
        ):
            with pytest.raises(ArgumentError, match="agreement is of in → elsewhere, the weights of in → conv"):
                make()

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (dict(units=np.array([6])), r"factors of conv \[6\] over 6 units of in came in.* conv:7 over"),
            (dict(target="other"), r"factors of other \[7\] over 6 units of in came in"),
            (dict(source="other"), r"factors of conv \[7\] over 6 units of other came in"),
            (dict(nonnegative="space"), "nonnegative='channels'"),
            (dict(nonnegative="none", method="svd"), "nonnegative='channels'"),
            (dict(per_unit=True), "nonnegative='channels'"),
        ],
    )
    def test_sources_are_not_grouped_by_factors_of_other_weights(self, change, words):
        w, own = grouped_unit()
        assert figures.expanded(w, factors=own, target=7).data["grouped"]
        with pytest.raises(ArgumentError, match=words):
            figures.expanded(w, factors=dataclasses.replace(own, **change), target=7)
        with pytest.raises(ArgumentError, match=words):  # also where they would hold too little
            figures.expanded(w, factors=dataclasses.replace(own, explained=0.1, **change), target=7)

    def test_nor_by_those_of_several_units(self):
        f = directions(i=4)
        with pytest.raises(ArgumentError, match=r"factors of conv \[0, 1, 2, 3\] over 4 units of in came in"):
            figures.expanded(weights(), factors=f, target=0)

    @pytest.mark.parametrize("sources", [3, 12])
    def test_nor_by_those_over_another_number_of_sources(self, sources):
        w, own = grouped_unit()
        other = dataclasses.replace(own, channels=np.ones((2, sources), np.float32), source_units=sources)
        with pytest.raises(ArgumentError, match=f"over {sources} units of in came in"):
            figures.expanded(w, factors=other, target=7)

    def test_factors_of_another_kind(self):
        for make in (figures.weight_factors, figures.factor_equation):
            with pytest.raises(ArgumentError, match="need joint factors, but every unit of these has directions"):
                make(factors(per_unit=True, nonnegative="channels"))
        for kind in ("space", "none"):
            with pytest.raises(ArgumentError, match=f"nonnegative='{kind}'"):
                figures.weight_factors(factors(nonnegative=kind))
            assert figures.factor_equation(factors(nonnegative=kind)).data["held"].shape == (3,)

    def test_outputs_of_another_layer(self):
        with pytest.raises(ArgumentError, match="outputs are weights on 'conv', not on 'elsewhere'"):
            figures.neuron_card(weights(), outputs=weights(i=6, source="elsewhere", target="next"), target=0)
        some = weights(o=3, i=2, source="conv", target="next", source_numbers=np.array([4, 1]))
        with pytest.raises(ArgumentError, match="conv:0 is not among the source units of outputs"):
            figures.neuron_card(weights(), outputs=some, target=0)
        excited = loop_power(some.values[:, 0] * (some.values[:, 0] > 0))
        data = figures.neuron_card(weights(), outputs=some, target=4, k=3).data
        assert data["outputs"][:3].tolist() == sorted(range(3), key=lambda n: -excited[n])

    @pytest.mark.parametrize(
        "more",
        [
            dict(factors=directions(o=1, i=4, units=np.array([6]))),
            dict(factors=directions(o=1, i=4, target="elsewhere")),
            dict(factors=directions(o=6, i=4)),
            dict(layer=dataclasses.replace(LAYER, name="elsewhere")),
        ],
        ids=["another unit", "another layer", "several units", "numbers of another layer"],
    )
    def test_a_card_of_records_about_something_else(self, more):
        with pytest.raises(WeightAtlasError):
            figures.neuron_card(weights(), **more, target=0).svg()
