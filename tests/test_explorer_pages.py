"""Every page of the explorer in Chromium, on an atlas of the embedded network, served and exported, with the network blocked."""

import csv
import io
import re
import urllib.parse

import exploring
import numpy as np
import pytest
from browsing import Visit, inaccessible, looked_at
from PIL import Image

import weightatlas as wa

pytestmark = pytest.mark.slow
T, S, B = "blocks.4.1", "blocks.4.0", "blocks.3.2"
QUERIES = {
    "model": "",
    "layer": f"?layer={T}",
    "layer, factors": f"?layer={T}&tiles=factors&sort=norm",
    "layer, chosen": f"?layer={T}&sel=1-3,7",
    "unit": f"?unit={T}:3",
    "unit, excite": f"?unit={T}:3&sort=excite&scale=shared&palette=colorblind&in={S}:40",
    "first layer": "?unit=blocks.3.2:1",
    "last layer": "?unit=blocks.4.2:1",
    "edge": f"?edge={T}:3&from={S}:5",
    "edge, two back": f"?edge={T}:3&from={B}:5&via={S}",
    "grid": f"?grid={T}:0-4&by={S}:0-5",
    "grid by rule": "?grid=1",
    "grid, turned": f"?grid={T}:0-4&transpose=1&order=similarity",
    "circuit": f"?circuit=board&pin={T}:3&pin={S}:5&pin={S}:1&pin={B}:2&pin=blocks.4.2:0",
    "empty circuit": "?circuit=board",
    "search": "?search=4.1",
    "strongest": "?search=strongest+edges",
    "cancelled": "?search=most+cancelled+edges",
    "nothing": "?search=qqqqqq",
    "help": "?help=keys",
    "lens": "?lens=image",
    "no such unit": f"?unit={T}:999999",
    "no such layer": "?layer=%3Cimg%20src=x%20onerror=alert(1)%3E",
    "no address": "?unit=%00%22%3E",
}


#: Those that are looked at in every way; the others are the same pages with other parameters.
MAIN = [
    "model",
    "layer",
    "layer, factors",
    "unit",
    "edge, two back",
    "grid",
    "circuit",
    "strongest",
    "search",
    "help",
    "lens",
]


@pytest.fixture(scope="module")
def atlas(lite0, photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("explored") / "atlas"
    exploring.build(lite0, folder, photos)
    return folder


@pytest.fixture(scope="module")
def live(atlas, tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "open"
    with exploring.served(atlas, log=log) as origin:
        yield origin


@pytest.fixture(scope="module")
def exported(atlas, tmp_path_factory):
    site = tmp_path_factory.mktemp("exported") / "site"
    wa.export_site(atlas, site)
    with exploring.static(site) as origin:
        yield origin


@pytest.fixture(scope="module")
def tabs(browser):
    """One tab for each site."""
    opened = {}
    yield opened
    wrong = [w for at in opened.values() for w in at.wrong]
    for at in opened.values():
        at.close()
    assert wrong == []


@pytest.fixture
def tab(browser, tabs):
    """Goes on in a site's tab with what is opened anew by its address; whatever went wrong there fails the test.

    Nothing else stays in it; a browser's new context for every address takes longer than most pages.
    """

    def at(origin, width=1280, height=900, scheme="light"):
        if origin not in tabs:
            tabs[origin] = Visit(browser, origin)
        found = tabs[origin]
        found.page.set_viewport_size({"width": width, "height": height})
        found.page.emulate_media(color_scheme=scheme)
        return found

    yield at
    wrong = [w for found in tabs.values() for w in found.wrong]
    for found in tabs.values():
        found.wrong.clear()
    assert wrong == []


@pytest.mark.parametrize("name", list(QUERIES))
def test_pages_served(tab, live, name):
    page = tab(live, width=1280).go(QUERIES[name])
    looked_at(page)
    assert inaccessible(page) == []
    if name in MAIN:
        page.emulate_media(color_scheme="dark")
        page.set_viewport_size({"width": 390, "height": 800})
        looked_at(page)
        assert inaccessible(page) == []


@pytest.mark.parametrize("name", [*MAIN, "no such unit"])
def test_pages_exported(tab, exported, name):
    page = tab(exported, width=390, scheme="dark").go(QUERIES[name])
    looked_at(page)
    assert "api/" not in " ".join(page.evaluate("performance.getEntriesByType('resource').map(e => e.name)"))
    page.set_viewport_size({"width": 3840, "height": 2160})
    looked_at(page)


def test_numbers_on_a_unit_are_those_of_the_atlas(visit, live, atlas):
    known = wa.Atlas(atlas)
    at = visit(live)
    for by in ("l2", "excite", "inhibit"):
        page = at.go(f"?unit={T}:3&sort={by}")
        for source in (S, B):
            top = known.weights(source, T, [3]).top(3, 18, by=by)
            row = page.locator(f".connections[data-layer='{source}'][data-direction=in]")
            shown = row.locator(".tile").evaluate_all("tiles => tiles.map(t => t.dataset.unit)")
            assert shown == [f"{source}:{u}" for u in top.sources]
            words = row.locator(".note").inner_text()
            assert f"{round(top.share * 100)}\u202f%" in words
            assert (
                f"cosine {np.format_float_positional(known.unit(f'{T}:3').inputs[0 if source == S else 1].cosine, 3)}"
                in words
            )
    out = page.locator(".connections[data-layer='blocks.4.2'][data-direction=out] .tile").evaluate_all(
        "t => t.map(e => e.dataset.unit)"
    )
    found = next(m for m in known.unit(f"{T}:3").outputs if m.layer == "blocks.4.2")
    inhibit = np.sqrt(np.square(np.minimum(found.values, 0), dtype=float).sum(axis=(1, 2)))
    assert out == [f"blocks.4.2:{found.units[i]}" for i in np.argsort(-inhibit, kind="stable") if inhibit[i] > 0][:18]


def test_maps_have_the_colours_of_their_numbers(visit, live, atlas):
    from weightatlas.figures import theme

    page = visit(live).go(f"?unit={T}:3")
    w = wa.Atlas(atlas).weights(S, T, [3])
    top = w.top(3, 18)
    pixels = page.locator(f".connections[data-layer='{S}'][data-direction=in] canvas").first.evaluate(
        "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    )
    expected = theme.diverging(top.maps[0], float(np.abs(top.maps).max()))
    assert np.abs(np.array(pixels).reshape(5, 5, 4)[..., :3] - expected.astype(int)).max() <= 1


def reads(page, text):
    """Waits until the page's heading holds a text."""
    page.wait_for_function("text => document.querySelector('h1')?.innerText.includes(text)", arg=text)


def test_a_walk(visit, live):
    """From a unit to its strongest input, back, to the edge, to a grid, a circuit, whose address says it all."""
    at = visit(live)
    page = at.go(f"?unit={T}:3")
    first = page.locator(".connections[data-direction=in] .tile").first
    name = first.get_attribute("data-unit")
    first.locator(".up").click()
    page.wait_for_url(re.compile(re.escape(urllib.parse.urlencode({"unit": name}, safe=":"))))
    reads(page, name)
    page.go_back()
    reads(page, f"{T}:3")
    page.locator(".connections[data-direction=in] .tile").first.locator(".down").click()
    page.wait_for_url("**/?edge=*")
    at.drawn()
    page.go_back()
    reads(page, f"{T}:3")
    page.get_by_role("button", name="pin").first.click()
    page.wait_for_url("**pin=*")
    page.locator(".connections[data-direction=in] .tile .up").first.click()
    reads(page, name)
    page.keyboard.press("p")
    page.wait_for_function("() => new URLSearchParams(location.search).getAll('pin').length === 2")
    page.keyboard.press("c")
    reads(page, "Circuit")
    shared = page.url
    drawing = page.locator("main").inner_text()
    again = visit(live)
    again.page.goto(shared)
    assert again.drawn().locator("main").inner_text() == drawing
    for address in (f"{T}:3", name):
        assert address in drawing


def test_keys_go_everywhere(visit, live):
    page = visit(live).go(f"?unit={T}:3")
    page.keyboard.press("j")
    reads(page, f"{T}:4")
    page.keyboard.press("ArrowLeft")
    reads(page, f"{T}:3")
    page.keyboard.press("s")
    page.wait_for_url("**sort=excite*")
    page.keyboard.press("x")
    page.wait_for_url("**palette=colorblind*")
    page.keyboard.press("u")
    page.wait_for_selector(".wall a")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "find"
    page.keyboard.type("4.2:7")
    page.keyboard.press("Enter")
    reads(page, "blocks.4.2:7")


def test_what_is_seen_can_be_had_as_files(visit, live, atlas, tmp_path):
    page = visit(live).go(f"?unit={T}:3")
    w = wa.Atlas(atlas).weights(S, T, [3])
    top = w.top(3, 18)

    def saved(kind):
        row = page.locator(f".connections[data-layer='{S}'][data-direction=in]")
        row.get_by_text("download").click()
        with page.expect_download() as coming:
            row.get_by_role("button", name=kind).click()
        path = tmp_path / coming.value.suggested_filename
        coming.value.save_as(path)
        return path

    assert np.load(saved("NPY")) == pytest.approx(top.maps)
    rows = list(csv.DictReader(io.StringIO(saved("CSV").read_text())))
    assert len(rows) == top.maps.size
    assert [float(r["weight"]) for r in rows] == pytest.approx(top.maps.ravel().tolist(), rel=1e-6)
    assert (rows[0]["source"], rows[0]["target"], rows[0]["y"]) == (f"{S}:{top.sources[0]}", f"{T}:3", "-2")
    svg = saved("SVG").read_text()
    assert svg.count("<image") == sum(u < exploring.UNITS for u in top.sources)
    assert "http" not in svg.replace("http://www.w3.org/", "")
    with Image.open(saved("PNG")) as picture:
        assert picture.width > 1000
        assert len(np.unique(np.asarray(picture.convert("RGB").resize((64, 64))).reshape(-1, 3), axis=0)) > 20


def test_an_edge_tells_what_its_map_and_its_paths_are(visit, live, atlas):
    import zarr

    w = wa.Atlas(atlas).weights(B, T, [3])
    values = w.values[0, 5].astype(float)
    page = visit(live).go(f"?edge={T}:3&from={B}:5&via={S}")
    facts = page.locator("main .facts").first.inner_text().replace("−", "-")
    shown = dict(re.findall(r"^(.+?)\n(.+)$", facts, re.M))
    squares = np.square(w.values[0], dtype=float).sum(axis=(1, 2))
    assert float(shown["L2 norm"]) == pytest.approx(np.linalg.norm(values), rel=5e-3)
    assert float(shown["sum"].replace("+", "")) == pytest.approx(values.sum(), rel=5e-3)
    assert shown["rank among its sources"] == f"{1 + int((squares > squares[5]).sum())} of 80"
    paths = zarr.open_group(atlas / "paths" / T / B / S, mode="r")["paths"][3, 5]
    a, b, c = (float(v) for v in paths[:3])
    words = page.locator(".cases").inner_text().replace("−", "-").replace("+", "")
    assert f"{round(100 * (1 - b / c))}\u202f%" in words
    told = [float(v) for v in re.findall(r"(?:best case|all paths|worst case)\s+(-?[\d.]+(?:e-?\d+)?)", words)]
    assert told == pytest.approx([(c + a) / 2, a, (a - c) / 2], rel=5e-3)
    middles = page.locator(".middles .middle:not(.rest)")
    adds = [float(t.replace("−", "-").replace("+", "")) for t in middles.locator(".adds").all_inner_texts()]
    assert adds == pytest.approx([float(v) for v in paths[4::2]], rel=5e-3)
    cells = page.get_by_role("gridcell").all_inner_texts()
    assert [float(t.replace("−", "-")) for t in cells] == pytest.approx(values.ravel().tolist(), abs=6e-3)


def test_a_grid_is_one_map_for_every_pair(visit, live, atlas, tmp_path):
    page = visit(live).go(f"?grid={T}:4,0-2&by={S}:5,1")
    w = wa.Atlas(atlas).weights(S, T, [0, 1, 2, 4])
    expected = w.values[[3, 0, 1, 2]][:, [5, 1]]  # in the order of the address
    page.get_by_text("download").click()
    with page.expect_download() as coming:
        page.get_by_role("button", name="NPY").click()
    coming.value.save_as(tmp_path / "x.npy")
    found = np.load(tmp_path / "x.npy")
    assert found == pytest.approx(expected.transpose(1, 0, 2, 3))  # sources down, targets across
    share = np.square(expected, dtype=float).sum() / np.square(w.values, dtype=float).sum()
    assert f"hold {round(100 * share)}\u202f%" in page.locator("main").inner_text()
    page.keyboard.press("t")
    page.wait_for_url("**transpose=1*")


def test_a_similar_order_is_that_of_the_figures(visit, live, atlas):
    from weightatlas.figures.ordering import by_similarity

    units, sources = [0, 1, 2, 3, 4, 5, 6], [0, 3, 7, 9]
    page = visit(live).go(f"?grid={T}:0-6&by={S}:0,3,7,9&order=similarity")
    values = wa.Atlas(atlas).weights(S, T, units).values[:, sources]
    strengths = np.sqrt(np.square(values, dtype=float).sum(axis=(2, 3)))
    links = page.locator("main a[href*='edge=']").evaluate_all(
        "e => e.map(a => new URL(a.href).searchParams.get('edge'))"
    )
    across = list(dict.fromkeys(links))
    candidates = [
        [f"{T}:{units[i]}" for i in by_similarity(rows)]
        for rows in (strengths, values.reshape(len(units), -1), np.abs(values.reshape(len(units), -1)))
    ]
    assert across in candidates or across[::-1] in candidates


def test_a_circuit_joins_what_is_pinned(visit, live, atlas):
    pins = [f"{T}:3", f"{S}:5", f"{B}:2"]
    page = visit(live).go("?circuit=board&" + "&".join(f"pin={p}" for p in pins))
    rows = page.locator("main table tbody tr").all_inner_texts()
    known = wa.Atlas(atlas)
    joined = [(B, 2, S, 5), (B, 2, T, 3), (S, 5, T, 3)]
    assert len(rows) == len(joined)
    for source, i, target, u in joined:
        norm = float(np.linalg.norm(known.weights(source, target, [u]).values[0, i]))
        row = next(r for r in rows if f"{source}:{i}" in r and f"{target}:{u}" in r)
        assert any(float(n) == pytest.approx(norm, rel=5e-3) for n in re.findall(r"\d*\.\d+", row))


def test_families_are_named_where_they_can_be_kept(visit, live, exported, atlas):
    for origin, kept in ((live, True), (exported, False)):
        page = visit(origin).go(f"?layer={T}&select=on&sel=1,3-5")
        page.get_by_role("textbox", name="name of the family").first.fill("fur & <b>scales</b>")
        page.get_by_role("button", name="name the family").click()
        page.locator(".own-families").get_by_text("fur & <b>scales</b>").wait_for()
        assert ("family=" in page.url) is not kept
        found = [f for f in wa.Atlas(atlas).families if f["name"].startswith("fur")]
        assert [f["units"] for f in found] == [[1, 3, 4, 5]]
        page.get_by_role("link", name=re.compile("model|efficientnet_lite0")).first.click()
        reads(page, "efficientnet_lite0")
        page.get_by_text("fur & <b>scales</b>").first.wait_for()
    page = visit(live).go(f"?layer={T}")
    page.get_by_role("button", name="drop the family fur").click()
    page.locator("main").get_by_text("fur & <b>scales</b>").first.wait_for(state="detached")
    assert not [f for f in wa.Atlas(atlas).families if f["name"].startswith("fur")]


def test_a_missing_picture_arrives(visit, live, atlas):
    """It is asked for on the page, made by the builder, told by an event, and shown without anyone's doing."""
    page = visit(live).go(f"?unit={T}:77")
    assert page.get_by_role("img", name=f"no picture of {T}:77 yet").count() == 1
    page.get_by_role("button", name="quick").click()
    picture = page.locator("img.big[src$='quick/77.webp']")
    picture.wait_for(timeout=120_000)
    assert picture.evaluate("e => e.decode().then(() => e.naturalWidth)") > 50
    assert wa.Atlas(atlas).pictures(T, "quick", [77]).images.std() > 5


HOSTILE = "<img src=x onerror=document['title']='pwned'>"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A small network whose layers have names that no page should trust, exported."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 6, 3, padding=1)
            self.add_module(HOSTILE, nn.Conv2d(6, 4, 3, padding=1, groups=2))
            self.add_module("ü/漢字:,#%&?=+ 🙂", nn.Conv2d(4, 5, 1))
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.add_module("a_very_long_name_" * 12, nn.Linear(5, 2))

        def forward(self, x):
            for name, part in self.named_children():
                x = part(x.flatten(1) if name.startswith("a_very") else torch.relu(x))
            return x

    net = wa.load(Block().eval(), input=wa.InputSpec(shape=(3, 8, 8)))
    folder = tmp_path_factory.mktemp("hostile")
    recipe = wa.Recipe(name="tiny", side=16, steps=2, jitter=2)
    wa.build(net, folder / "atlas", recipes=[recipe])
    wa.export_site(folder / "atlas", folder / "site")
    with exploring.static(folder / "site") as origin:
        yield origin, wa.Atlas(folder / "atlas")


def test_names_are_data(visit, hostile):
    origin, atlas = hostile
    queries = ["", *(f"?layer={urllib.parse.quote(row)}" for row in atlas.layers)]
    for row in atlas.layers[1:3]:
        quoted, last = urllib.parse.quote(row), atlas.layer(row)["units"] - 1
        queries += [f"?unit={quoted}:{last}", f"?edge={quoted}:0", f"?grid={quoted}:0", f"?search={quoted}"]
    queries.append("?circuit=board&" + "&".join(f"pin={urllib.parse.quote(n)}:0" for n in atlas.layers))
    at = visit(origin, width=390)
    for query in queries:
        page = at.go(query)
        looked_at(page)
        assert "pwned" not in page.title() or HOSTILE[:20] in page.title()
        assert page.locator("img[src='x']").count() == 0
        assert at.wrong == [], query
    page = visit(origin).go(f"?layer={urllib.parse.quote(HOSTILE)}")
    assert HOSTILE in page.locator("h1").inner_text()


def test_numbers_behind_a_global_pooling_are_those_of_all_positions(visit, hostile):
    origin, atlas = hostile
    source, target = atlas.layers[-2:]
    values = atlas.weights(source, target, [1]).values[0].astype(float)
    assert values.shape == (5, 8, 8)
    page = visit(origin).go(f"?unit={urllib.parse.quote(target)}:1")
    for tile in page.locator(".connections[data-direction=in]").first.locator(".tile").all():
        own = values[int(tile.get_attribute("data-unit").rpartition(":")[2])]
        tip = tile.locator(".down").get_attribute("data-tip").replace("−", "-")
        norm, total = re.search(r"norm ([\d.e-]+), sum \+?(-?[\d.e-]+)", tip).groups()
        assert float(norm) == pytest.approx(np.linalg.norm(own), rel=6e-3)
        assert float(total) == pytest.approx(own.sum(), rel=6e-3)


def test_any_number_of_tabs_stays_alive(visit, live):
    at = visit(live)
    pages = [at.page, *(at.context.new_page() for _ in range(8))]
    for n, page in enumerate(pages):
        page.goto(f"{live}/?unit={T}:{n}")
        reads(page, f"{T}:{n}")
    pages[0].keyboard.press("j")
    reads(pages[0], f"{T}:1")


def test_an_exported_copy_says_what_an_image_would_need(visit, exported):
    page = visit(exported).go(f"?lens=image&image={'0' * 20}&step={T}:3:4,5")
    assert page.locator(".zone .command code").inner_text() == "weightatlas open efficientnet_lite0"
    assert page.locator("#image-file").count() == 0
    page.get_by_role("link", name="on an image").click()
    assert "an exported copy has only what is in its atlas" in page.locator(".zone").inner_text()
    assert page.evaluate("performance.getEntriesByType('resource').filter(e => e.name.includes('/api/')).length") == 0


def test_what_is_built_elsewhere_leaves_the_reader_alone(visit, live):
    at = visit(live)
    page = at.go(f"?unit={T}:3")
    page.locator(".provenance summary").click()
    page.locator(".connections .tile .down").nth(4).focus()
    page.evaluate("() => { document.querySelector('.unit').mine = true; }")
    there = f"() => fetch('atlas/atlas.json').then(a => a.json()).then(m => m.layers.find(l => l.name === '{B}').pictures.quick.made.flat().includes(71))"
    page.evaluate(
        "ask => fetch('api/ask', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(ask)})",
        {"what": "picture", "layer": B, "unit": 71, "recipe": "quick"},
    )
    for _ in range(120):
        if page.evaluate(there):
            break
        page.wait_for_timeout(500)
    page.wait_for_timeout(1500)
    assert page.evaluate("() => document.querySelector('.unit').mine && document.querySelector('.provenance').open")
    assert page.evaluate("() => document.activeElement.matches('.tile .down')")


def test_places_come_back(visit, exported):
    page = visit(exported).go(f"?unit={T}:3")

    def at(y):
        page.wait_for_function("y => Math.abs(scrollY - y) < 3", arg=y)

    def scrolled(y):
        page.evaluate("y => scrollTo(0, y)", y)
        page.wait_for_timeout(600)

    scrolled(700)
    page.get_by_role("link", name="next unit").click()
    reads(page, f"{T}:4")
    at(0)
    scrolled(500)
    page.go_back()
    reads(page, f"{T}:3")
    at(700)
    page.go_forward()
    reads(page, f"{T}:4")
    at(500)
    page.reload()
    reads(page, f"{T}:4")
    at(500)


@pytest.mark.parametrize(
    "file",
    [
        "layers/*/units.json",
        "layers/*/activations.json",
        "connections/*/*/agreement.json",
        "connections/*/*/top.json",
        "connections/*/*/factors/*.json",
    ],
)
def test_a_damaged_file_costs_its_part_alone(visit, exported, file):
    page = visit(exported).page
    page.route(f"**/atlas/{file}", lambda route: route.fulfill(body='{"units": ['))
    page.goto(f"{exported}/?unit={T}:3")
    reads(page, f"{T}:3")
    assert page.locator(".connections .tile").count() > 20
    assert re.search(r"damaged.*weightatlas check", page.locator("main").inner_text())


def test_a_damaged_chunk_is_no_result(visit, exported):
    page = visit(exported).page

    def torn(route):
        body = bytearray(route.fetch().body())
        body[40] ^= 1
        route.fulfill(body=bytes(body))

    page.route(f"**/atlas/weights/{T}/{S}/values/c.3.0.0.0", torn)
    page.goto(f"{exported}/?unit={T}:3")
    reads(page, f"{T}:3")
    assert "its checksum does not fit" in page.locator("main").inner_text()
    assert page.locator(f".connections[data-layer='{S}'][data-direction=in] .tile").count() == 0
    assert page.locator(f".connections[data-layer='{B}'] .tile").count() > 5


def test_parameters_that_mean_nothing_are_passed_over(visit, exported):
    for query, tiles in (
        (f"?layer={T}&size=constructor&sort=__proto__", ".wall a"),
        (f"?edge={T}:3&from={S}:5&scale=toString", ".pic"),
    ):
        page = visit(exported).go(query)
        assert page.locator(tiles).count() > 1
        assert "NaN" not in page.locator("main").inner_text()


def test_keys_work_on_a_wall(visit, exported):
    page = visit(exported).go(f"?layer={T}")
    page.locator(".wall a").nth(2).focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("() => document.activeElement.dataset.unit") == "3"
    page.keyboard.press("j")
    reads(page, "blocks.4.2")
