"""Layer names as paths: whatever a module may be called, its path is safe everywhere, and its own."""

import re
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from weightatlas.errors import ArgumentError
from weightatlas.store.names import name_of, path_of, split_path

#: What Windows does not let be a file, with any ending behind a dot.
DEVICES = {"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(10))}
ODD = [
    "blocks.4.1", "relu#2", "Mixed_5b", "mixed_5b", "MIXED_5B", ".", "..", "...", "../..", "a/../b", "/", "a/b", "a\\b",
    "a.", "a ", " a", "con", "CON", "con.", "aux.conv", "LPT1", "com0", "nul.tar.gz", "conx", "~", "~~", "~046", "a~",
    "~con", ".hidden", ".lock", "a\x00b", "a\nb", "%2e%2e", "a?b*c", "C:", "\u00e9", "e\u0301", "\u1e9e", "\ufb01",
    "\u0130", "\u212a", "\U0001f600", "\ud83d\ude00", "\udcff", "\uffff", "x" * 180, "x" * 181, "X" * 500, "." * 400,
    "\u5c64" * 999, "very.long." * 400, "zarr.json", "input",
]  # fmt: skip
#: Letters from which accidents are made, more often than hypothesis would.
NEAR = st.text(st.sampled_from([*"acnox.~/\\ _-0459Aé#:", "\u0301", "\udc80"]), min_size=1, max_size=12)
NAMES = st.one_of(NEAR, st.text(st.characters(codec=None), min_size=1), st.sampled_from(ODD))
LONG = st.builds(lambda a, b, n: (a * n)[:4000] + b, NAMES, NAMES, st.integers(1, 400))


def is_safe(component):
    """Whether a component can be a file's name on every system, in a URL, and on a static host."""
    return (
        0 < len(component.encode()) <= 255
        and component.isascii()
        and component.isprintable()
        and not set(component) & set('<>:"/\\|?*% ')
        and component[0] != "."
        and component[-1] not in ". "
        and component.split(".")[0].lower() not in DEVICES
        and component == component.lower() == unicodedata.normalize("NFKD", component)
    )


@settings(max_examples=200, deadline=None)
@given(st.one_of(NAMES, LONG))
def test_a_path_is_safe_and_gives_the_name_back(name):
    path = path_of(name)
    assert all(is_safe(component) for component in path.split("/")), path
    assert name_of(path) == name


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_odd_names_are_safe_and_come_back(name):
    assert all(is_safe(component) for component in path_of(name).split("/"))
    assert name_of(path_of(name)) == name


def test_the_probe_of_safety_sees_what_is_unsafe():
    unsafe = ["", ".", "..", "a.", "a ", ".a", "con", "CON", "aux.conv", "lpt1.x.y", "a:b", "a%20", "é", "a\n", "A"]
    assert not any(map(is_safe, [*unsafe, "x" * 256]))
    assert all(map(is_safe, ["a", "conx", "a.con", "~099on", "x" * 255]))


@settings(max_examples=150, deadline=None)
@given(NAMES, NAMES)
@example("Relu", "relu")
@example("\u00e9", "e\u0301")
@example("\U0001f600", "\ud83d\ude00")
def test_no_two_names_share_a_path_whatever_a_file_system_folds(one, other):
    folded = [unicodedata.normalize("NFKC", path_of(n)).casefold() for n in (one, other)]
    assert (folded[0] == folded[1]) == (one == other)


def test_odd_names_have_paths_of_their_own_and_none_lies_in_another():
    paths = {path_of(name) for name in ODD}
    assert len(paths) == len(ODD)
    begun = {"/".join(p.split("/")[: i + 1]) for p in paths for i in range(p.count("/"))}
    assert begun
    assert not begun & paths  # a folder of one is never the path of another


def test_names_that_a_person_meets_stay_as_they_are():
    for name in ("blocks.4.1", "features.denseblock1.denselayer2.conv_1", "stage-3", "0"):
        assert path_of(name) == name


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.text(max_size=20),
        st.text(st.sampled_from("aco.n~/0469Z"), max_size=12),
        st.lists(st.sampled_from(["~", "~0", "~046", "~065", "~256", "~299", "~a", "a", ".", "/", "~/", "con"])).map(
            "".join
        ),
        NAMES.map(path_of),
    )
)
def test_nothing_is_a_path_but_what_a_name_gives(text):
    try:
        name = name_of(text)
    except ArgumentError:
        return
    assert path_of(name) == text


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "A", "a/b", "~", "a~", "~/a", "con", "~099onx", "~097", "~A", "a b", "~256", "~195", "a.", ".a",
     "x" * 181, "x" * 180 + "~/", "x" * 179 + "~/" + "x", "a\n", "é", "~046~046/..", "\udcff"],
)  # fmt: skip
def test_these_are_paths_of_no_name(text):
    with pytest.raises(ArgumentError, match="the path of no layer's name"):
        name_of(text)


@pytest.mark.parametrize("name", ["", None, 3, b"conv", ["conv"]])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(ArgumentError, match="at least one character, not"):
        path_of(name)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.one_of(NAMES, LONG), min_size=1, max_size=3), st.sampled_from([[], ["zarr.json"], ["quick", "3.webp"]])
)
def test_names_in_a_row_are_split_where_they_were_joined(names, rest):
    parts = [component for name in names for component in path_of(name).split("/")] + rest
    for name in names:
        path, parts = split_path(parts)
        assert name_of(path) == name
    assert parts == rest


def test_a_path_that_is_cut_off_is_the_path_of_nothing():
    path = path_of("x" * 500)
    assert re.fullmatch(r"x{180}~/x{180}~/x{140}", path)
    first, rest = split_path(path.split("/")[:2])
    assert rest == []
    with pytest.raises(ArgumentError):
        name_of(first)
