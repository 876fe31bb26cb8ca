"""Records with planted numbers, and what a drawing of them holds; shared by the tests of figures."""

import base64
import dataclasses
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
from PIL import Image

import weightatlas as wa
from weightatlas.records import Banding, BandRow, Factors, Provenance, Replaced, Weights

SVG = "{http://www.w3.org/2000/svg}"
CELL = 8
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "\"'><script>alert(1)</script>",
    "]]><!--&amp;",
    "bell\x07nul\x00esc\x1b[31m",
    "שלום.עולם\u202egnp",
    "😀.層.ﷺ",
    "\udcff\uffff",
    "very.long." * 400,
]


def weights(o=6, i=4, h=3, w=3, seed=0, **more):
    values = np.random.default_rng(seed).normal(size=(o, i, h, w)).astype(np.float32)
    fields = dict(values=values, source="in", target="conv", units=np.arange(o), source_units=i, target_units=o)
    return Weights(**(fields | more))


def factors(o=6, i=4, h=3, w=3, k=3, *, per_unit=False, seed=0, **more):
    """A record with planted numbers; nothing is factorized."""
    generator = np.random.default_rng(seed)
    fields = dict(
        space=generator.random((o, h, w, k), np.float32),
        channels=generator.normal(size=(o, k, i) if per_unit else (k, i)).astype(np.float32),
        explained=0.4321,
        bound=0.5678,
        shares=np.linspace(0.3, 0.01, k).astype(np.float32),
        unit_explained=generator.random(o, np.float32),
        unit_bound=np.full(o, np.nan, np.float32),
        source="in",
        target="conv",
        units=np.arange(o),
        source_units=i,
        nonnegative="space",
        method="posneg",
        per_unit=per_unit,
        seed=0,
        restarts=1,
        provenance=Provenance("net", "ab" * 32, "1.0", ("2 ReLU6 read as the identity",)),
    )
    return wa.Factors(**(fields | more))


def banding(*rows):
    rows = rows or (
        BandRow("early", 0.25, 0.26, 0.25, 0.25, (0.2, 0.3), False, (3, 3), 10, (1, 1)),
        BandRow("late", 0.59, 0.32, 0.25, 0.25, (0.09, 0.45), True, (3, 3), 1152, (1, 1)),
        BandRow("stem", 0.51, 0.2, 0.25, 0.25, (0.1, 0.46), False, (3, 3), 96, (2, 2), "sees pixels: filters"),
    )
    return Banding(tuple(rows), 0, 500, Provenance("net"))


def parse(drawn, width=720, look="light"):
    return ET.fromstring(drawn.svg(width, look))


def images(root):
    """(place x, y, width, height; pixels one a weight) of every tile, without colour scales."""
    found = []
    for node in root.iter(f"{SVG}image"):
        if node.get("aria-label") == "colour scale":
            continue
        data = base64.b64decode(node.get("href").removeprefix("data:image/png;base64,"))
        big = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        small = big[::CELL, ::CELL]
        assert np.array_equal(small.repeat(CELL, 0).repeat(CELL, 1), big)  # nothing blended
        found.append(([float(node.get(k)) for k in ("x", "y", "width", "height")], small))
    return found


def tiles(root):
    return np.stack([pixels for _, pixels in images(root)])


def texts(root):
    return [node.text for node in root.iter(f"{SVG}text")]


def flat(words):
    return re.sub(r"\s+", "", "".join(words))


def by_hand(space, peak, colours):
    """A tile's colours, square by square."""
    out = np.zeros((*space.shape[:-1], 3))
    for index in np.ndindex(space.shape[:-1]):
        for k in range(space.shape[-1]):
            out[index] += min(space[index][k] / peak[k], 1) * np.array(colours[k])
    return out * 255


def rgb_weights(o=6, **more):
    fields = dict(i=3, source="input", sees_pixels=True, channel_names=("red", "green", "blue"))
    return weights(o=o, **(fields | more))


def drawings(name="conv", **more):
    """One of each kind of figure, about a layer of that name."""
    provenance = Provenance(name, notes=(f"note on {name}",))
    row = dataclasses.replace(banding()[1], layer=name, apart=more.get("apart", ""))
    return {
        "nmf": wa.figures.nmf_grid(factors(target=name, source=name, provenance=provenance)),
        "pixels": wa.figures.pixel_grid(rgb_weights(target=name, source=name, norm=name, provenance=provenance)),
        "maps": wa.figures.signed_maps(weights(i=1, target=name, source=name, provenance=provenance)),
        "banding": wa.figures.banding_plot(
            Banding((row, dataclasses.replace(row, apart=name, banded=False)), 0, 5, provenance)
        ),
    }


#: A name no file format should choke on.
ODD = "Schicht·層<img src=x>'\"]]>\x00\n\u202e😀\udcff"
PROVENANCE = Provenance(ODD, "ab" * 32, "9.9", ("one note", ODD))


def odd_weights(seed=0, o=6, i=4, h=3, w=5, groups=2, **more):
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(o, i // groups, h, w)).astype(np.float32)
    fields = dict(
        values=values,
        source="in",
        target=ODD,
        units=np.arange(o),
        source_units=i,
        target_units=o,
        groups=groups,
        origin=(-1.0, 0.5),
        stride=(2, 1),
        dilation=(0.5, 0.5),
        sees_pixels=True,
        channel_names=("a", ODD),
        norm="bn",
        replaced=(Replaced("ReLU6", ODD, "identity"), Replaced("MaxPool2d", "pool", "average")),
        provenance=PROVENANCE,
    )
    return Weights(**(fields | more))


def odd_factors():
    generator = np.random.default_rng(1)
    return Factors(
        space=generator.random((2, 3, 3, 2), np.float32),
        channels=generator.normal(size=(2, 5)).astype(np.float32),
        explained=0.1 + 0.2,  # no short decimal
        bound=float("nan"),
        shares=np.array([0.2, 0.1], np.float32),
        unit_explained=np.array([0.5, np.inf], np.float32),
        unit_bound=np.full(2, np.nan, np.float32),
        source="s",
        target=ODD,
        units=np.array([3, 17]),
        source_units=5,
        nonnegative="space",
        method="semi",
        per_unit=False,
        seed=2**40,
        restarts=3,
        provenance=PROVENANCE,
    )


def odd_banding():
    nan, inf = float("nan"), float("inf")
    rows = (
        BandRow("a", 0.59, 0.1 + 0.2, 0.25, 0.25, (0.1, 0.4), True, (3, 3), 1152, (1, 1)),
        BandRow(ODD, nan, nan, 0.2, 0.3, (nan, -inf), False, (5, 3), 7, (0.5, 2.0), "NaN"),
    )
    return Banding(rows, seed=4, permutations=11, provenance=PROVENANCE)


RECORDS = {"weights": odd_weights, "factors": odd_factors, "banding": odd_banding}
