"""What the explorer's modules compute, held to what this package computes: names, colours, checksums, orders, files."""

import functools
import http.server
import io
import json
import threading
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from browsing import Visit
from PIL import Image

import weightatlas as wa
from weightatlas.figures import theme
from weightatlas.records.connections import norms
from weightatlas.store.names import path_of

SITE = Path(wa.__file__).parent / "explorer" / "site"
NAMES = [
    "blocks.4.1", "relu#2", "Mixed_5b", "..", ".", "x.", "con", "con.x", "COM1", "a/b\\c:d*?", "<img src=x onerror=alert(1)>",
    "ein Ü und 漢字 und 🙂", "~", "a~1", "%2e%2e", "x" * 179, "X" * 100, "ü" * 200, "a." * 120, "é.", "aux.1", "nul", " ", "\n",
]  # fmt: skip


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def origin():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def call(browser, origin):
    """Calls a function of a module with JSON arguments: call("names", "pathOf(name)", name=…)."""
    visit = Visit(browser, origin)
    visit.page.goto(f"{origin}/explorer/icon.svg")

    def run(module, expression, **given):
        code = f"""async (given) => {{
            const m = await import('/explorer/{module}.js');
            const {{ {", ".join(given)} }} = given;
            return m.{expression};
        }}"""
        return visit.page.evaluate(code, given)

    yield run
    visit.close()


def listed(array):
    """A typed array as Playwright hands it over: a list, or in older versions an object with numbers as names."""
    return array if isinstance(array, list) else [array[str(i)] for i in range(len(array))]


def test_names_become_the_same_paths(call):
    for name in NAMES:
        assert call("names", "pathOf(name)", name=name) == path_of(name), name


def test_colours_are_those_of_the_figures(call):
    values = np.linspace(-1.3, 1.3, 301)
    for palette in ("classic", "colorblind", "activation"):
        found = call("colours", "diverging(values, 1.1, palette)", values=values.tolist(), palette=palette)
        rgba = np.array(listed(found)).reshape(-1, 4)
        own = theme.activation(values, 1.1) if palette == "activation" else theme.diverging(values, 1.1, palette)
        assert np.abs(rgba[:, :3] - own.astype(int)).max() <= 1
        assert (rgba[:, 3] == 255).all()


def test_steps_of_a_walk_survive_their_address(call):
    for step in (
        {"layer": "a:b/%2C,ü", "unit": 3, "at": [0, 12], "source": "x:y", "method": "conductance"},
        {"layer": "relu#2", "unit": 0, "at": [3, 4], "source": None, "method": "gradient"},
        {"layer": "n", "unit": 9, "at": [0, 0], "source": None, "method": None},
    ):
        text = call("pages/lens/steps", "writtenStep(step)", step=step)
        assert call("pages/lens/steps", "parsedStep(text)", text=text) == step
    for bad in ("", "a:1", "a:1:2", "a:x:1,2", "%:1:2,3", "a:1:2,3:b:c:d", "a:-1:2,3"):
        assert call("pages/lens/steps", "parsedStep(text)", text=bad) is None, bad
    odd = call("pages/lens/steps", "parsedStep(text)", text="a:1:2,3::constructor")
    assert odd["method"] is None


def test_checksums_are_crc32c(call):
    for data in (b"", b"123456789", bytes(range(256)) * 5):
        assert call("checksum", "crc32c(data)", data=list(data)) == google_crc32c.value(data)


@pytest.mark.parametrize("by", ["l2", "excite", "inhibit"])
def test_the_strongest_are_those_of_the_record(call, by):
    maps = np.random.default_rng(3).normal(size=(9, 2, 3)).astype(np.float32)
    maps[4], maps[7] = 0, maps[2]  # nothing, and a tie
    units = [20, 3, 8, 5, 9, 1, 30, 7, 2]
    found = call("atlas", "strongest({units, maps}, by, 5)", units=units, maps=maps.reshape(9, -1).tolist(), by=by)
    strengths = norms(maps, by)
    order = sorted((i for i in range(9) if strengths[i] > 0), key=lambda i: (-strengths[i], units[i]))[:5]
    squares = np.square(maps, dtype=float).sum(axis=(1, 2))
    assert found["units"] == [units[i] for i in order]
    assert found["strengths"] == pytest.approx(strengths[order], rel=1e-6)
    assert found["share"] == pytest.approx(squares[order].sum() / squares.sum(), rel=1e-6)
    assert found["of"] == 8


def test_addresses_and_lists_of_numbers(call):
    assert call("addresses", "parsedUnit(text)", text="a:b:12") == {"layer": "a:b", "unit": 12}
    for bad in ("a", "a:", ":3", "a:x", "a:-1", ""):
        assert call("addresses", "parsedUnit(text)", text=bad) is None
    assert call("addresses", "written(units)", units=[1, 2, 3, 7, 9, 10, 5]) == "1-3,7,9,10,5"
    assert call("addresses", "numbers(text)", text="3, 1-2,2") == [3, 1, 2]
    for bad in ("", "a", "3-1", "1,,2", "0-99999999"):
        assert call("addresses", "numbers(text)", text=bad) is None
    runs = [[0, 3], [7, 7], [9, 20]]
    assert [n for n in range(25) if call("addresses", "within(runs, n)", runs=runs, n=n)] == [
        0,
        1,
        2,
        3,
        7,
        *range(9, 21),
    ]


def test_the_state_of_a_view_survives_its_address(call):
    state = {"unit": "a&b=c#d?e/%41:3", "pin": ["x:1", "<b>:2", "ü,y z:3"], "sort": "", "k": None}
    text = call("addresses", "query(state)", state=state)
    back = call("addresses", "query(new URLSearchParams(text))", text=text)
    assert back == text
    pins = call("addresses", "link({layer: 'q'}, new URLSearchParams(text))", text=text)
    assert call(
        "addresses", "query(Object.fromEntries([['pin', new URLSearchParams(text).getAll('pin')]]))", text=pins
    ) == (call("addresses", "query({pin: pins})", pins=state["pin"]))
    family = {"name": "a:b, %", "layer": "l:1#", "units": [1, 2, 3, 9]}
    text = call("addresses", "query({family: m.familyInAddress(family)})", family=family)
    assert call("addresses", "familiesInAddress(new URLSearchParams(text))", text=text) == [{**family, "by": "address"}]


def tiles():
    rng = np.random.default_rng(0)
    return [
        {
            "label": str(n), "from": f"a,b:{n}", "into": 'c"d:1', "picture": None, "values": rng.normal(size=6).round(3).tolist(),
            "rows": 2, "columns": 3, "origin": [-1, -1.5], "dilation": [1, 2],
        }
        for n in range(3)
    ]  # fmt: skip


def test_tables_hold_every_weight_and_its_place(call):
    import csv

    text = call("downloads", "csv({tiles})", tiles=tiles())
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["source", "target", "y", "x", "weight"]
    expected = [
        [t["from"], t["into"], -1 + i // 3, -1.5 + 2 * (i % 3), v] for t in tiles() for i, v in enumerate(t["values"])
    ]
    assert [[a, b, float(y), float(x), float(v)] for a, b, y, x, v in rows[1:]] == expected


def test_numpy_reads_the_arrays(call):
    data = call("downloads", "npy({tiles})", tiles=tiles())
    array = np.load(io.BytesIO(bytes(listed(data))))
    assert array.dtype == np.float32
    assert array == pytest.approx(np.array([t["values"] for t in tiles()]).reshape(3, 2, 3))


def test_drawings_are_whole_and_in_colour(call, origin):
    from xml.etree import ElementTree

    view = {"name": "x", "title": "a <b> & c", "caption": "words", "scale": 2.0, "tiles": tiles()}
    text = call("downloads", "svgOf(view).then((e) => new XMLSerializer().serializeToString(e))", view=view)
    root = ElementTree.fromstring(text)
    fills = [e.get("fill") for e in root.iter("{http://www.w3.org/2000/svg}rect")]
    for t in tiles():
        for rgb in theme.diverging(np.array(t["values"]), 2.0):
            assert any(
                f
                and f.startswith("#")
                and max(abs(int(f[i : i + 2], 16) - int(c)) for i, c in zip((1, 3, 5), rgb, strict=True)) <= 1
                for f in fills
            )
    assert "a <b> & c" in "".join(root.itertext())


def test_a_long_caption_stays_on_its_drawing(call):
    words = "a caption of many words that is longer than a drawing with one tile " * 4
    view = {"name": "x", "title": "t", "caption": words, "scale": 1.0, "tiles": tiles()[:1]}
    found = call(
        "downloads",
        "svgOf(view).then((e) => [e.getAttribute('width'), [...e.querySelectorAll('text')].map((t) => t.textContent.length)])",
        view=view,
    )
    assert max(found[1]) * 6.2 <= float(found[0])


def test_pictures_tell_what_they_hold(call, tmp_path):
    from weightatlas.store.pictures import encoded

    about = {"what": "unit", "layer": "ü <b>", "unit": 3, "settings": {"steps": 4}, "reached": 1.5}
    data = encoded(np.zeros((8, 8, 3), np.uint8), about)
    found = call("exif", "described(new Uint8Array(data))", data=list(data))
    assert {k: found[k] for k in about} == about
    plain = io.BytesIO()
    Image.new("RGB", (4, 4)).save(plain, "WEBP")
    assert call("exif", "described(new Uint8Array(data))", data=list(plain.getvalue())) is None
    assert call("exif", "described(new Uint8Array(data))", data=[1, 2, 3]) is None


def test_numbers_are_written_for_readers(call):
    for value, text in [
        (0, "0"),
        (0.03124, "0.0312"),
        (-1.5, "−1.5"),
        (12400, "12\u2009400"),
        (3.14e-7, "3.14e−7"),
        (None, "—"),
    ]:
        assert call("numbers", "short(value)", value=value) == text
    assert call("numbers", "percent(share)", share=0.354) == "35\u202f%"


def test_pages_load_nothing_from_elsewhere_and_hold_no_script_of_their_own():
    page = (SITE / "index.html").read_text()
    assert "default-src 'none'" in page
    assert "style=" not in page
    assert "onclick" not in page
    for path in SITE.rglob("*"):
        if path.suffix in (".js", ".css", ".html"):
            text = path.read_text()
            places = [
                w
                for w in (
                    "http://",
                    "https://",
                    "innerHTML",
                    "insertAdjacentHTML",
                    "document.write",
                    "eval(",
                    "new Function",
                )
                if w in text
            ]
            allowed = {"http://"} if "http://www.w3.org/2000/svg" in text else set()
            assert set(places) <= allowed | ({"https://"} if "https://doi.org" in text else set()), path
            assert len(text.splitlines()) <= 300, path


def test_addresses_of_modules_exist():
    import re

    for path in (SITE / "explorer").rglob("*.js"):
        for name in re.findall(r"""(?:from|import)\s*\(?\s*["'](\.[^"']+)["']""", path.read_text()):
            assert (path.parent / name).resolve().is_file(), (path, name)
    assert json.dumps(sorted(p.name for p in SITE.iterdir())) == json.dumps(["explorer", "index.html"])


def imported(path):
    """A module and all that it imports at once, in the order in which they are found."""
    import re

    found, waiting = [], [path]
    while waiting:
        one = waiting.pop(0)
        if one not in found:
            found.append(one)
            names = re.findall(r"""^import[^;]*?from\s*["'](\.[^"']+)["']""", one.read_text(), re.M)
            waiting += [(one.parent / name).resolve() for name in names]
    return found


def test_the_page_asks_for_all_modules_of_its_core_at_once():
    import re

    page = (SITE / "index.html").read_text()
    named = re.findall(r'<link rel="modulepreload" href="([^"]+)">', page)
    core = [str(p.relative_to(SITE)) for p in imported(SITE / "explorer" / "main.js")[1:]]
    assert sorted(named) == sorted(core)
