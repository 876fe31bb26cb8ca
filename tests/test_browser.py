"""Figures and pages in Chromium, where there is one: hard squares, no sideways scrolling, nothing loaded from elsewhere."""

import io

import numpy as np
import pytest
from browsing import sideways
from PIL import Image
from planted import drawings, factors, weights
from test_records_features import features
from torch import nn

import weightatlas as wa
from weightatlas.figures import theme

pytestmark = pytest.mark.usefixtures("one_thread")
WIDTHS = (320, 390, 1280)


@pytest.fixture
def at(browser):
    """Opens a file at a width, light or dark; stops at any request that leaves the file."""
    opened = []

    def go(path, width, scheme="light", scale=1):
        page = browser.new_page(
            viewport={"width": width, "height": 800}, color_scheme=scheme, device_scale_factor=scale
        )
        opened.append(page)
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
        return page

    yield go
    for page in opened:
        page.close()


def in_context():
    """One of each figure between pictures, about planted weights."""
    w = weights(o=6, i=5, source="earlier.layer", target="a.later.layer.with.a.long.name")
    pictures = [
        features(n=5, layer="earlier.layer", units=np.arange(5)),
        features(n=6, layer=w.target, units=np.arange(6)),
    ]
    places = [(0, 0), (1, 1), (2, 2)]
    f = factors(o=6, i=5, k=2, source="earlier.layer", target=w.target, nonnegative="channels")
    return {
        "connection": wa.figures.connection(w, pictures, source=1, target=2),
        "small_multiples": wa.figures.small_multiples(w, pictures, target=2, by="both"),
        "family_grid": wa.figures.family_grid(w, pictures, targets=range(6), sources=range(5), order="similarity"),
        "spatial_positions": wa.figures.spatial_positions(w, features(n=3, layer="earlier.layer"), pictures, target=2, places=places),
        "weight_factors": wa.figures.weight_factors(f, features(n=2, layer="earlier.layer"), pictures),
        "factor_equation": wa.figures.factor_equation(f, features(n=2, layer="earlier.layer"), pictures),
        "expanded": wa.figures.expanded(w, pictures, target=2),
        "neuron_card": wa.figures.neuron_card(w, pictures, target=2),
    }  # fmt: skip


def beyond(page):
    """Texts and pictures that reach over the right edge of the window."""
    return page.evaluate(
        "[...document.querySelectorAll('svg text, svg image, svg rect, p, pre, h1, h2, figcaption')]"
        ".filter(e => e.getBoundingClientRect().width && e.getBoundingClientRect().right > innerWidth + 1)"
        ".map(e => e.outerHTML.slice(0, 120))"
    )


@pytest.mark.parametrize("name", list(in_context()))
def test_a_figure_fits_its_window(at, tmp_path, name):
    path = in_context()[name].save(tmp_path / "x.html")
    for width in WIDTHS:
        page = at(path, width, "dark" if width == 390 else "light")
        assert sideways(page) == 0
        assert beyond(page) == []
        assert page.locator("svg:visible :is(image, use)").count() > 0


def test_light_and_dark_follow_the_reader(at, tmp_path):
    path = in_context()["connection"].save(tmp_path / "x.html")
    grounds = [
        at(path, 390, scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    assert grounds == ["rgb(255, 255, 255)", "rgb(19, 19, 22)"]


@pytest.mark.parametrize("scale", [1, 1.7, 3])
def test_squares_stay_hard(at, tmp_path, scale):
    w = weights(o=1, i=1, h=5, w=5)
    path = wa.figures.connection(w, source=0, target=0).save(tmp_path / "x.svg", theme="light")
    page = at(path, 720, scale=scale)
    image = page.locator("image[href^='data:image/png']").first
    seen = np.asarray(Image.open(io.BytesIO(image.screenshot())).convert("RGB"), int)
    inner = seen[2:-2, 2:-2].reshape(-1, 3)
    colours = theme.diverging(w.values[0, 0], float(np.abs(w.values).max()), "classic").reshape(-1, 3).astype(int)
    apart = np.abs(inner[:, None] - colours[None]).max(axis=2).min(axis=1)
    assert (apart <= 2).mean() > 0.99  # nothing between two colours


@pytest.mark.parametrize("name", list(drawings()))
def test_the_other_figures_fit_as_well(at, tmp_path, name):
    path = drawings()[name].save(tmp_path / "x.html")
    for width in WIDTHS:
        assert sideways(at(path, width)) == 0


def test_an_article_fits_its_window(at, tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 10, 3), nn.ReLU(), nn.Conv2d(10, 12, 3), nn.ReLU(), nn.Conv2d(12, 9, 3))
    net = wa.load(module, input=wa.InputSpec(shape=(3, 24, 24)))
    path = wa.article(net, tmp_path / "article", recipe="quick")
    for width, scheme in ((390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")):
        page = at(path, width, scheme)
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert sideways(page) == 0
        assert beyond(page) == []
