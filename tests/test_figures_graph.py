"""The drawing of the layer graph: whoever follows its lines finds exactly the edges, and nothing lies over another."""

import io
import itertools
import re
import time
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from planted import HOSTILE, SVG, parse

import weightatlas as wa
from weightatlas.errors import ArgumentError, UnknownNameError
from weightatlas.figures import graphs, lettering, theme
from weightatlas.figures.lanes import lay_out
from weightatlas.figures.scene import Scene
from weightatlas.records import GraphNode, LayerGraph

WIDTHS = (240, 300, 390, 900, 1280)


class Net:
    """A graph made layer by layer."""

    def __init__(self):
        self.nodes, self.edges = [GraphNode("input", kind="input", units=3, grid=(64, 64))], []

    def add(self, name, kind, *reads, operators=(), also=(), units=64):
        self.nodes.append(GraphNode(name, also, kind, kind.title().replace(" ", ""), units, (14, 14), operators, 1234))
        self.edges += [(read, name) for read in reads]
        return name

    def chain(self, prefix, x, count=1):
        for i in range(1, count + 1):
            x = self.add(f"{prefix}.conv{i}", "conv", x)
            x = self.add(f"{prefix}.bn{i}", "norm", x)
            x = self.add(f"{prefix}.relu{i}", "activation", x)
        return x

    def graph(self, model, **more):
        return LayerGraph(self.nodes, self.edges, model, **more)


def resnet(blocks=4):
    net = Net()
    x = net.chain("stem", "input")
    for i in range(blocks):
        y = net.chain(f"layer1.{i}", x, 2)
        skip = net.add(f"layer1.{i}.downsample.0", "conv", x) if i % 2 == 0 else x
        x = net.add(f"layer1.{i}", "block", y, skip, operators=("add",), also=(f"layer1.{i}.out",))
    net.add("fc", "linear", x, operators=("mean", "flatten"), units=1000)
    return net.graph("resnet")


def googlenet(modules=3):
    net = Net()
    x = net.chain("conv1", "input")
    for m in range(modules):
        branches = [net.chain(f"inception{m}.branch{b}", x, b) for b in (1, 2, 3)]
        pool = net.chain(f"inception{m}.branch4", net.add(f"inception{m}.branch4.pool", "pool", x))
        x = net.add(f"inception{m}", "other", *branches, pool, operators=("cat",))
    return net.graph("googlenet")


def densenet(layers=8):
    net, together = Net(), []
    together.append(net.chain("features.stem", "input"))
    for i in range(layers):
        x = net.add(f"features.denseblock1.denselayer{i}.norm1", "norm", *together, operators=("cat",))
        together.append(net.chain(f"features.denseblock1.denselayer{i}", x))
    net.add("features.norm5", "norm", *together, operators=("cat",))
    return net.graph("densenet")


def unet(depth=3):
    net, skips, x = Net(), [], "input"
    for i in range(depth):
        x = net.chain(f"down{i}", x)
        skips.append(x)
        x = net.add(f"pool{i}", "pool", x)
    for i in reversed(range(depth)):
        x = net.add(f"up{i}", "transposed conv", x)
        x = net.add(f"up{i}.conv", "conv", x, skips[i], operators=("cat",))
    return net.graph("unet")


def of(count, edges):
    return LayerGraph([GraphNode(f"n{i}") for i in range(count)], [(f"n{a}", f"n{b}") for a, b in edges])


NETS = {"resnet": resnet, "googlenet": googlenet, "densenet": densenet, "unet": unet}


@st.composite
def dags(draw, most=12):
    count = draw(st.integers(1, most))
    pairs = [(a, b) for b in range(count) for a in range(b)]
    return count, sorted(draw(st.sets(st.sampled_from(pairs), max_size=3 * most))) if pairs else []


def rows_of(graph):
    row = {node.name: i for i, node in enumerate(graph.nodes)}
    return len(graph), [(row[a], row[b]) for a, b in graph.edges]


def followed(runs):
    """The edges that the runs say, going down each of them."""
    edges = set()
    for run in runs:
        carried = set()
        for row in sorted({*run.joins, *run.nodes, *run.leaves}):
            if row in run.leaves or row in run.nodes:
                edges |= {(source, row) for source in carried}
            if row in run.nodes:
                carried = {row}
            if row in run.joins:
                carried.add(row)
    return edges


def check_lanes(count, edges):
    runs = lay_out(count, edges)
    assert followed(runs) == set(edges)
    assert sorted(row for run in runs for row in run.nodes) == list(range(count))
    taken = {}
    for run in runs:
        if run.nodes and run.joins:
            assert run.joins[0] < run.nodes[0]
        if run.nodes and run.leaves:
            assert run.nodes[-1] < run.leaves[0]
        for gap in range(run.first, run.last):  # the space between this row and the next
            assert taken.setdefault((run.lane, gap), run) is run
    for run in runs:  # nobody passes through a layer
        for row in run.nodes:
            for gap in (row - 1, row):
                other = taken.get((run.lane, gap))
                assert other in (None, run) or row in (other.first, other.last)
    assert [run for run in runs if run.lane == 0] == runs[:1]
    assert sorted({run.lane for run in runs}) == list(range(max((r.lane for r in runs), default=-1) + 1))
    return runs


class TestLanes:
    @settings(max_examples=400, deadline=None)
    @given(dags())
    def test_following_them_gives_the_edges_and_no_segment_is_shared(self, dag):
        runs = check_lanes(*dag)
        longest = [1] * dag[0]
        for a, b in sorted(dag[1], key=lambda e: e[1]):
            longest[b] = max(longest[b], longest[a] + 1)
        assert len(runs[0].nodes) == max(longest)

    @pytest.mark.parametrize("name", NETS)
    def test_of_networks(self, name):
        check_lanes(*rows_of(NETS[name]()))

    def test_an_output_spans_from_its_row_to_its_last_reader(self):
        runs = lay_out(6, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 3), (1, 5)])
        assert [(r.lane, r.first, r.last) for r in runs] == [(0, 0, 5), (1, 0, 3), (2, 1, 5)]

    def test_residual_blocks_take_one_lane(self):
        edges = [(i, i + 1) for i in range(12)] + [(i, i + 3) for i in range(0, 12, 3)]
        runs = lay_out(13, edges)
        assert [(r.first, r.last) for r in runs if r.lane == 1] == [(0, 3), (3, 6), (6, 9), (9, 12)]
        assert max(r.lane for r in runs) == 1

    def test_branches_lie_side_by_side_and_their_lanes_are_free_again(self):
        runs = lay_out(*rows_of(googlenet(5)))
        assert max(r.lane for r in runs) == 3
        assert len([r for r in runs if r.lane == 3]) == 5
        assert all(len(r.nodes) > 1 for r in runs)

    def test_what_the_same_layers_read_runs_together(self):
        runs = lay_out(*rows_of(densenet(24)))
        assert max(r.lane for r in runs) == 1
        assert len(runs[1].joins) == 24

    def test_nested_ones_do_not_cross(self):
        runs = lay_out(*rows_of(unet(4)))[1:]
        assert [r.lane for r in sorted(runs, key=lambda r: r.last - r.first)] == [1, 2, 3, 4]

    def test_nothing_and_little(self):
        assert lay_out(0, []) == []
        assert [(r.lane, r.nodes) for r in lay_out(3, [])] == [(0, [0]), (1, [1]), (1, [2])]

    def test_two_thousand_rows_take_no_time(self):
        edges = {(a, b) for b in range(2000) for a in (b - 1, b - 2, b - 9, b - 400) if a >= 0}
        start = time.perf_counter()
        check_lanes(2000, sorted(edges))
        assert time.perf_counter() - start < 3


def marks(root):
    """Centres of the layers' marks in order of rows; the first of each kind are the legend's."""
    found = []
    for node in root.iter():
        if node.tag == f"{SVG}circle":
            found.append((float(node.get("cx")), float(node.get("cy"))))
        elif node.tag == f"{SVG}rect" and node.get("rx"):
            half = float(node.get("width")) / 2
            found.append((float(node.get("x")) + half, float(node.get("y")) + half))
    return found


def shapes(root):
    """Vertical lines (x, top, bottom), corners in (from x, row, to x) and out (x, row, to x) of all paths."""
    verticals, enter, leave = [], [], []
    for path in root.iter(f"{SVG}path"):
        for text in re.findall(r"M[^M]*", path.get("d")):
            steps = [(s[0], [float(v) for v in s[1:].split()]) for s in re.findall(r"[MVHQ][^MVHQ]*", text)]
            letters = "".join(letter for letter, _ in steps)
            numbers = [n for _, n in steps]
            if letters == "MV":
                verticals.append((numbers[0][0], numbers[0][1], numbers[1][0]))
            elif letters == "MHQ":
                (x, y), _, (cx, cy, to, _) = numbers
                assert (cx, cy) == (to, y)
                enter.append((x, y, to))
            else:
                assert letters == "MQH"
                (x, _), (cx, cy, _, y), (to,) = numbers
                assert (cx, cy) == (x, y)
                leave.append((x, y, to))
    return verticals, enter, leave


def traced(root, count):
    """The edges that a reader finds who follows the lines down from every layer."""
    centres = marks(root)[-count:]
    verticals, enter, leave = shapes(root)
    bend = 8
    edges = set()

    def down(source, x, y):
        for _, top, bottom in [v for v in verticals if v[0] == x and v[1] <= y < v[2]]:
            stops = [(cy, i) for i, (cx, cy) in enumerate(centres) if cx == x and y < cy <= bottom]
            until = min(stops, default=(bottom + bend, None))
            for _, row, to in [e for e in leave if e[0] == x and y <= e[1] - bend <= bottom and e[1] < until[0] + 0.1]:
                edges.add((source, centres.index((to, row))))
            if until[1] is not None:
                edges.add((source, until[1]))
            assert top <= y

    for i, (x, y) in enumerate(centres):
        down(i, x, y)
        for _, _, to in [e for e in enter if e[:2] == (x, y)]:
            down(i, to, y + bend)
    return edges


class TestDrawing:
    @pytest.mark.parametrize("width", WIDTHS)
    @pytest.mark.parametrize("name", NETS)
    def test_lines_lead_from_each_layer_to_its_readers(self, name, width):
        graph = NETS[name]()
        root = parse(wa.figures.graph_figure(graph), width)
        assert traced(root, len(graph)) == set(rows_of(graph)[1])

    @settings(max_examples=60, deadline=None)
    @given(dags())
    def test_the_same_for_any_graph(self, dag):
        root = parse(wa.figures.graph_figure(of(*dag)), 1280)
        assert traced(root, dag[0]) == set(dag[1])

    @pytest.mark.parametrize("name", NETS)
    def test_one_row_a_layer_in_order(self, name):
        graph = NETS[name]()
        root = parse(wa.figures.graph_figure(graph), 1280)
        ys = [y for _, y in marks(root)[-len(graph) :]]
        assert {round(b - a, 2) for a, b in itertools.pairwise(ys)} == {graphs.ROW}
        rows = [n for n in root.iter(f"{SVG}text") if "wa-m" in n.get("class")][1:]
        assert ["".join(n.itertext()).partition(" = ")[0] for n in rows] == [n.name for n in graph.nodes]
        for text, y in zip(rows, ys, strict=True):
            assert float(text.get("y")) == pytest.approx(y + 4)

    @pytest.mark.parametrize("width", WIDTHS)
    @pytest.mark.parametrize("name", [*NETS, "long"])
    def test_nothing_leaves_the_picture_or_lies_over_another(self, name, width):
        graph = NETS[name]() if name in NETS else long_names()
        root = parse(wa.figures.graph_figure(graph), width)
        height, boxes = float(root.get("height")), []
        for node in root.iter(f"{SVG}text"):
            size, words = float(node.get("font-size")), "".join(node.itertext())
            wide = lettering.text_width(words, size, mono="wa-m" in node.get("class"))
            left = float(node.get("x")) - {"middle": wide / 2, "end": wide}.get(node.get("text-anchor"), 0)
            y = float(node.get("y"))
            assert left >= 15, words
            assert left + wide <= width - 10, words
            assert 0 < y < height
            boxes.append((left, y - 0.7 * size, left + wide, y + 0.1 * size, words))
        boxes += [(x - 4, y - 4, x + 4, y + 4, "mark") for x, y in marks(root)]
        for i, (l1, t1, r1, b1, one) in enumerate(boxes):
            for l2, t2, r2, b2, two in boxes[:i]:
                assert r1 <= l2 or r2 <= l1 or b1 <= t2 or b2 <= t1, (one, two)
        names = min(left for left, _, _, _, words in boxes if words.startswith("layer"))
        assert max(x for x, *_ in shapes(root)[0]) < names  # lines stay left of names

    def test_lines_are_two_shapes(self):
        for name, make in NETS.items():
            paths = list(parse(wa.figures.graph_figure(make())).iter(f"{SVG}path"))
            assert [p.get("stroke-width") for p in paths] == ["1.25", "2"], name
            assert all(p.get("fill") == "none" and p.get("class") == "wa-s-quiet" for p in paths)

    def test_a_chain_is_one_line(self):
        drawn = wa.figures.graph_figure(of(4, [(0, 1), (1, 2), (2, 3)]))
        assert len(list(parse(drawn).iter(f"{SVG}path"))) == 1
        assert drawn.caption == "Layers in the order in which they ran; each reads the one above."

    def test_nothing_and_one(self):
        assert "No layers" in wa.figures.graph_figure(LayerGraph([], [])).alt
        root = parse(wa.figures.graph_figure(of(1, [])))
        assert not list(root.iter(f"{SVG}path"))
        assert len(marks(root)) == 2

    def test_kinds_have_marks_of_their_own_and_a_legend(self):
        for colour in graphs.COLOURS.values():
            for look in theme.INKS.values():
                assert contrast(colour, look["ground"]) >= 3
        assert len(set(graphs.COLOURS.values())) == len(graphs.COLOURS)
        graph = googlenet()
        root = parse(wa.figures.graph_figure(graph))
        fills = [n.get("fill") for n in root.iter(f"{SVG}circle")]
        kinds = [n.kind for n in graph.nodes]
        legend = ["conv", "pool", "norm", "activation", "other"]
        assert fills == [graphs.COLOURS[k] for k in [*legend, *kinds[1:]]]
        texts = [n.text for n in root.iter(f"{SVG}text")]
        assert texts[2:8] == ["input", *legend]

    def test_kinds_it_does_not_know(self):
        odd = LayerGraph([GraphNode("a", kind="attention"), GraphNode("b"), GraphNode("input")], [])
        root = parse(wa.figures.graph_figure(odd))
        assert {n.get("fill") for n in root.iter(f"{SVG}circle")} == {graphs.COLOURS["other"]}
        assert [n.text for n in root.iter(f"{SVG}text")][2:5] == ["input", "other", "attention"]


def contrast(one, other):
    """Of WCAG 2."""

    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(a * b for a, b in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def long_names():
    net, x = Net(), "input"
    for i in range(3):
        x = net.chain(f"encoder.stages.{i}.a_rather_long_name_of_a_block.with_more_in_it", x)
        x = net.add("w" * 150 + f"{i}", "conv", x, operators=("mul", "softmax", "transpose"), also=("x" * 90 + f"{i}",))
    return net.graph("m" * 200)


class TestNames:
    def test_what_is_shared_with_the_row_above_is_quiet(self):
        graph = resnet()
        root = parse(wa.figures.graph_figure(graph), 1280)
        rows = {"".join(n.itertext()).partition(" = ")[0]: n for n in root.iter(f"{SVG}text")}
        parts = [(n.text, [s.text for s in n]) for n in (rows["layer1.0.bn1"], rows["layer1.0"], rows["fc"])]
        assert parts == [("layer1.0.", ["bn1"]), (None, ["layer1.0", " = layer1.0.out"]), (None, ["fc"])]
        classes = {s.get("class") for s in rows["layer1.0.bn1"]}
        assert (rows["layer1.0.bn1"].get("class"), classes) == ("wa-m wa-quiet", {"wa-ink"})

    def test_narrow_figures_leave_out_what_is_shared(self):
        drawn = wa.figures.graph_figure(densenet())
        words = ["".join(n.itertext()) for n in parse(drawn, 300).iter(f"{SVG}text")]
        assert "…denselayer3.conv1" in words
        assert "…denselayer4.norm1 cat" in words
        wide = ["".join(n.itertext()) for n in parse(drawn, 900).iter(f"{SVG}text")]
        assert "features.denseblock1.denselayer3.conv1" in wide
        assert "cat · Norm" in wide

    @pytest.mark.parametrize("name", HOSTILE, ids=lambda n: ascii(n)[:20])
    def test_names_are_text(self, name, tmp_path):
        nodes = [GraphNode("input"), GraphNode(name, (name + "'",), name, name, 3, (2, 5), (name, "add"), 7)]
        drawn = wa.figures.graph_figure(LayerGraph(nodes, [("input", name)], name, (name,)), "input", name)
        allowed = {"svg", "title", "desc", "style", "rect", "text", "tspan", "path", "circle", "g"}
        for width in (240, 720):
            root = parse(drawn, width)
            assert {n.tag.removeprefix(SVG) for n in root.iter()} <= allowed
        assert wa.figures.visible(name).strip() in " ".join(root.itertext()).replace("\n", " ")
        assert "<script" not in drawn.html()
        assert drawn.save(tmp_path / "x.html").exists()

    def test_tooltips_tell_everything(self):
        root = parse(wa.figures.graph_figure(resnet()), 300)
        tips = [t.text for t in root.iter(f"{SVG}title")]
        assert (
            "layer1.0: block (Block), 64 units on 14 × 14, 1,234 parameters, reads layer1.0.relu2, "
            "layer1.0.downsample.0 (add), also layer1.0.out"
        ) in tips
        assert len(tips) == 1 + len(resnet())


class TestFigure:
    def test_a_part(self):
        graph = resnet()
        drawn = wa.figures.graph_figure(graph, "layer1.0.out", "layer1.2")
        assert drawn.data["names"] == graph.between("layer1.0", "layer1.2")
        assert drawn.title == "Layers of resnet, from layer1.0.out to layer1.2"
        assert "from layer1.0.out to layer1.2" in [t.text for t in parse(drawn).iter(f"{SVG}text")]
        assert wa.figures.graph_figure(graph, target="stem.bn1").data["names"] == ["input", "stem.conv1", "stem.bn1"]
        assert wa.figures.graph_figure(graph, source="fc").title == "Layers of resnet, from fc"
        cut = wa.figures.graph_figure(graph, "layer1.1.conv2", "layer1.1")
        assert cut.caption.endswith("Outside this part, layer1.1 also reads layer1.0.")

    def test_mistakes(self):
        with pytest.raises(UnknownNameError, match=r"nearest: 'layer1\.0'"):
            wa.figures.graph_figure(resnet(), "layr1.0")
        with pytest.raises(ArgumentError, match="no path leads from 'fc' to 'input' in resnet"):
            wa.figures.graph_figure(resnet(), "fc", "input")

    def test_text_alternatives(self):
        drawn = wa.figures.graph_figure(resnet(), "input", "layer1.1")
        assert drawn.alt == (
            "19 rows from input to layer1.1; layer1.0 reads layer1.0.relu2, layer1.0.downsample.0; "
            "layer1.1 reads layer1.1.relu2, layer1.0."
        )
        root = parse(drawn)
        assert root.get("aria-label") == f"{drawn.title}. {drawn.alt}"
        many = wa.figures.graph_figure(resnet(40)).alt
        assert many.endswith("; 28 more read several.")

    def test_themes_and_files(self, tmp_path):
        drawn = wa.figures.graph_figure(unet())
        assert theme.INKS["dark"]["ground"] not in drawn.svg(theme="light")
        grounds = [
            Image.open(io.BytesIO(drawn.png(1, width=300, theme=t))).convert("RGB").getpixel((1, 1))
            for t in ("light", "dark")
        ]
        assert grounds == [(255, 255, 255), (0x13, 0x13, 0x16)]
        assert drawn.svg() == wa.figures.graph_figure(unet()).svg()
        assert drawn.save(tmp_path / "g.svg", width=390).read_text(encoding="utf-8") == drawn.svg(390)
        fragment = drawn.html()
        for drawing in re.findall(r"<svg.*?</svg>", fragment):
            assert not re.search(r'#[0-9a-f]{6}(?!")', drawing)  # marks alone have colours of their own
            ET.fromstring(drawing)

    def test_lines_are_seen_in_pixels(self):
        drawn = wa.figures.graph_figure(unet())
        root = parse(drawn, 390)
        picture = Image.open(io.BytesIO(drawn.png(2, width=390))).convert("L")
        for x, top, bottom in shapes(root)[0]:
            middle = picture.getpixel((round(x * 2), round(top + bottom)))
            beside = picture.getpixel((round(x * 2) + 8, round(top + bottom)))
            assert middle < 160
            assert beside > 200 or x == max(v[0] for v in shapes(root)[0])


def test_a_path_of_the_scene():
    scene = Scene(100)
    scene.path([("M", 1, 2.005), ("V", 30), ("Q", 1, 40, 9, 40.5), ("H", 90)], "ink", 2)
    root = ET.fromstring(scene.svg("light", "t", "d"))
    assert root.find(f"{SVG}path").attrib == {
        "d": "M1 2V30Q1 40 9 40.5H90",
        "fill": "none",
        "class": "wa-s-ink",
        "stroke-width": "2",
    }
    assert scene.height == 40.5


def test_text_in_several_inks():
    scene = Scene(100)
    scene.text(0, 10, "a<", more=[("b&", "ink"), ("", "line"), ("c", "quiet")])
    text = ET.fromstring(scene.svg("light", "t", "d")).find(f"{SVG}text")
    assert [text.text, *((s.text, s.get("class")) for s in text)] == ["a<", ("b&", "wa-ink"), ("c", "wa-quiet")]
