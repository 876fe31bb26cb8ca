"""The graph of layers: paths against their enumeration one by one, names, files, and what is refused."""

import itertools
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import HOSTILE

import weightatlas as wa
from weightatlas.errors import ArgumentError, LoadError, UnknownNameError
from weightatlas.records import GraphNode, LayerGraph


def graph_of(count, edges, **more):
    return LayerGraph([GraphNode(f"n{i}") for i in range(count)], [(f"n{a}", f"n{b}") for a, b in edges], **more)


def residual(**more):
    nodes = [
        GraphNode("input", kind="input", units=3, grid=(8, 8)),
        GraphNode("conv1", kind="conv", type="Conv2d", units=4, grid=(8, 8), parameters=108),
        GraphNode("bn1", ("stem",), "norm", "BatchNorm2d", 4, (8, 8), parameters=8),
        GraphNode("block.conv", (), "conv", "Conv2d", 4, (8, 8), parameters=144),
        GraphNode("block", ("body", "body.0"), "block", "Block", 4, (8, 8), ("add",), 144),
        GraphNode("head", kind="linear", type="Linear", units=10, operators=("mean", "flatten"), parameters=40),
    ]
    edges = [
        ("input", "conv1"),
        ("conv1", "bn1"),
        ("stem", "block.conv"),
        ("block.conv", "block"),
        ("bn1", "block"),
        ("body.0", "head"),
    ]
    return LayerGraph(nodes, edges, **({"model": "tiny", "notes": ("a note",)} | more))


@st.composite
def dags(draw, most=8):
    count = draw(st.integers(1, most))
    pairs = [(a, b) for b in range(count) for a in range(b)]
    return count, sorted(draw(st.sets(st.sampled_from(pairs)))) if pairs else []


def every_path(count, edges, start, end):
    """All paths, one by one."""
    if start == end:
        return [[end]]
    return [[start, *rest] for a, b in edges if a == start for rest in every_path(count, edges, b, end)]


class TestPaths:
    @settings(max_examples=150, deadline=None)
    @given(dags())
    def test_connected_and_between_are_what_all_paths_say(self, dag):
        graph = graph_of(*dag)
        for start in range(dag[0]):
            for end in range(dag[0]):
                paths = every_path(*dag, start, end)
                names = [f"n{i}" for i in sorted({i for path in paths for i in path})]
                assert graph.connected(f"n{start}", f"n{end}") == bool(paths)
                assert graph.between(f"n{start}", f"n{end}") == names

    @settings(max_examples=100, deadline=None)
    @given(dags())
    def test_neighbours_are_the_edges(self, dag):
        graph = graph_of(*dag)
        for i in range(dag[0]):
            assert graph.inputs(f"n{i}") == [f"n{a}" for a, b in dag[1] if b == i]
            assert graph.outputs(f"n{i}") == [f"n{b}" for a, b in dag[1] if a == i]

    @settings(max_examples=100, deadline=None)
    @given(dags())
    def test_a_part_holds_every_path_and_no_other_edge(self, dag):
        graph = graph_of(*dag)
        for start in range(dag[0]):
            for end in range(start, dag[0]):
                paths = every_path(*dag, start, end)
                if not paths:
                    with pytest.raises(ArgumentError, match="no path"):
                        graph.part(f"n{start}", f"n{end}")
                    continue
                part = graph.part(f"n{start}", f"n{end}")
                steps = {(f"n{a}", f"n{b}") for path in paths for a, b in itertools.pairwise(path)}
                assert set(part.edges) == steps
                assert [n.name for n in part.nodes] == graph.between(f"n{start}", f"n{end}")

    def test_a_part_says_what_it_leaves_out(self):
        part = residual().part("block.conv", "head")
        assert [n.name for n in part.nodes] == ["block.conv", "block", "head"]
        assert part.notes == ("a note", "outside this part, block also reads bn1")
        assert (part.model, part.node("body").operators) == ("tiny", ("add",))
        many = graph_of(20, [(i, j) for j in range(10, 20) for i in range(j)])
        assert many.part("n10").notes[0] == "outside this part, n11 also reads n0, n1, n2, n3, n4 and 5 more"
        assert many.part("n10").notes[-1] == "4 more layers also read others that are not in this part"

    def test_one_end_may_be_open(self):
        graph = residual()
        assert [n.name for n in graph.part("stem").nodes] == ["bn1", "block.conv", "block", "head"]
        assert [n.name for n in graph.part(target="stem").nodes] == ["input", "conv1", "bn1"]
        assert len(graph.part()) == len(graph)

    def test_the_wrong_way_round_is_said(self):
        with pytest.raises(ArgumentError, match=r"'head' to 'conv1' in tiny; the other way round there is one"):
            residual().part("head", "conv1")
        apart = graph_of(3, [(0, 1), (0, 2)])
        with pytest.raises(ArgumentError, match=r"no path leads from 'n1' to 'n2' in the network$"):
            apart.part("n1", "n2")


class TestNames:
    def test_other_names_of_the_same_output(self):
        graph = residual()
        assert graph.node("body.0") is graph.node("block")
        assert graph.inputs("body") == ["block.conv", "bn1"]
        assert graph.outputs("stem") == ["block.conv", "block"]
        assert graph.connected("body", "block")
        assert graph.connected("stem", "head")
        assert graph.between("stem", "body") == ["bn1", "block.conv", "block"]
        assert graph.edges[2] == ("bn1", "block.conv")
        assert "body" in graph
        assert "bodi" not in graph

    def test_an_unknown_name_gets_the_nearest(self):
        graph = residual()
        for ask in (graph.node, graph.inputs, graph.outputs, graph.part):
            with pytest.raises(UnknownNameError, match=r"no layer 'block.cnv' in the graph of tiny; nearest: 'block.c"):
                ask("block.cnv")
        for ask in (graph.connected, graph.between, graph.part):
            with pytest.raises(UnknownNameError, match="'hed'"):
                ask("input", "hed")

    def test_an_edge_twice_counts_once(self):
        graph = LayerGraph([GraphNode("a", ("b",)), GraphNode("c")], [("a", "c"), ("b", "c")])
        assert graph.edges == (("a", "c"),)
        assert graph.inputs("c") == ["a"]


class TestRefused:
    @pytest.mark.parametrize("nodes", [["a", "a"], ["a", "b:a"], ["a:x", "b:x"], ["a:a"]])
    def test_names_that_come_twice(self, nodes):
        made = [GraphNode(n.partition(":")[0], tuple(n.split(":")[1:])) for n in nodes]
        with pytest.raises(ArgumentError, match="came twice"):
            LayerGraph(made, [])

    def test_edges_to_nowhere(self):
        for edge in [("n0", "x"), ("x", "n1"), ("n0",), ("n0", "n1", "n2")]:
            with pytest.raises(ArgumentError, match="must join two of the nodes"):
                LayerGraph([GraphNode(f"n{i}") for i in range(3)], [edge])

    def test_circles_and_steps_back(self):
        with pytest.raises(ArgumentError, match="'n1' → 'n1' closes a circle"):
            graph_of(3, [(0, 1), (1, 1)])
        with pytest.raises(ArgumentError, match="'n2' → 'n0' closes a circle"):
            graph_of(3, [(0, 1), (1, 2), (2, 0)])
        with pytest.raises(ArgumentError, match="'n2' → 'n1' runs backwards; give the nodes in execution order"):
            graph_of(3, [(0, 1), (2, 1)])
        with pytest.raises(ArgumentError, match="closes a circle"):
            LayerGraph([GraphNode("a", ("b",))], [("a", "b")])


class TestFiles:
    @pytest.mark.parametrize("name", HOSTILE, ids=lambda n: ascii(n)[:20])
    def test_json_reads_back(self, name, tmp_path):
        nodes = [GraphNode("input"), GraphNode(name, (name + "'",), name, name, 3, (2, 5), (name, "add"), 7)]
        graph = LayerGraph(nodes, [("input", name)], name, (name,))
        for back in (LayerGraph.from_json(graph.to_json()), LayerGraph.load(graph.save(tmp_path / "g.json"))):
            assert (back.nodes, back.edges, back.model, back.notes) == (graph.nodes, graph.edges, name, (name,))

    def test_json_is_as_documented(self):
        data = json.loads(residual().to_json())
        assert list(data) == ["model", "notes", "nodes", "edges"]
        assert data["edges"][1:3] == [["conv1", "bn1"], ["bn1", "block.conv"]]
        assert data["nodes"][5] == {
            "name": "head",
            "also": [],
            "kind": "linear",
            "type": "Linear",
            "units": 10,
            "grid": None,
            "operators": ["mean", "flatten"],
            "parameters": 40,
        }

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "{}",
            "3",
            '{"nodes": 3, "edges": [], "model": "", "notes": []}',
            '{"nodes": [{"nme": "a"}], "edges": [], "model": "", "notes": []}',
            '{"nodes": [{"name": "a"}], "edges": [["a"]], "model": "", "notes": []}',
            '{"nodes": [{"name": "a"}], "edges": [["a", "a"]], "model": "", "notes": []}',
        ],
    )
    def test_other_text(self, text, tmp_path):
        with pytest.raises(ArgumentError):
            LayerGraph.from_json(text)
        (tmp_path / "g.json").write_text(text)
        with pytest.raises(LoadError, match=r"g\.json"):
            LayerGraph.load(tmp_path / "g.json")

    def test_files_that_cannot_be_read(self, tmp_path):
        (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
        for path in (tmp_path / "gone.json", tmp_path, tmp_path / "b.json"):
            with pytest.raises(LoadError):
                LayerGraph.load(path)


def test_shows_itself():
    graph = residual()
    assert repr(graph) == "LayerGraph(tiny: 6 nodes, 6 edges, 1 with several inputs)"
    assert len(graph) == 6
    assert repr(LayerGraph([], [])) == "LayerGraph(network: 0 nodes, 0 edges, 0 with several inputs)"
    shown = LayerGraph([], [], model="<b>")._repr_html_()
    assert "LayerGraph(" in shown or "wa-figure" in shown
    assert "<b>" not in shown


def test_two_thousand_layers_take_no_time():
    edges = [(a, b) for b in range(2000) for a in {b - 1, b - 2, b - 9, b - 400} if a >= 0]
    start = time.perf_counter()
    graph = graph_of(2000, edges)
    for _ in range(20):
        assert graph.connected("n0", "n1999")
        assert len(graph.between("n3", "n1990")) > 1900
    assert len(graph.part("n5", "n1999")) > 1900
    assert LayerGraph.from_json(graph.to_json()).edges == graph.edges
    assert time.perf_counter() - start < 3
    assert wa.figures.visible(repr(graph)) == repr(graph)
