"""Type: the faces that come with the package, how wide text is in them, and where lines break."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import as_file, files

#: Families as CSS lists. Semi-bold is a family of its own where only the package's files are known (PNG).
SANS = "Inter, ui-sans-serif, system-ui, -apple-system, 'Segoe UI', sans-serif"
BOLD = f"'Inter Semi Bold', {SANS}"
MONO = "'JetBrains Mono', ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"

#: Readers' own typefaces differ a little from ours, so this share of a line is kept free.
SPARE = 0.04
#: Words longer than so many lines lose their middle.
MOST_LINES = 3
#: Characters that would turn the words around them: embeddings, overrides, isolates, marks.
TURNING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C}


@dataclass(frozen=True)
class _Faces:
    regular: str
    bold: str
    mono: str


@cache
def font_files() -> _Faces:
    """Paths of the typefaces that come with the package (Inter, JetBrains Mono)."""
    names = ("Inter-Regular.otf", "Inter-SemiBold.otf", "JetBrainsMono-Regular.ttf")
    paths = []
    for name in names:
        with as_file(files("weightatlas.figures") / "fonts" / name) as path:
            paths.append(str(path))
    return _Faces(*paths)


@cache
def _face(path: str) -> object:
    from PIL import ImageFont

    return ImageFont.truetype(path, 100)


@lru_cache(4096)
def _drawn(letter: str, path: str) -> bool:
    """Whether a typeface has a glyph; its stand-in for a missing one is empty."""
    return letter.isspace() or _face(path).getmask(letter).getbbox() is not None  # pyright: ignore[reportAttributeAccessIssue]


def all_drawn(text: str) -> bool:
    """Whether the package's typefaces hold every character."""
    faces = font_files()
    return text.isascii() or all(_drawn(c, faces.regular) and _drawn(c, faces.mono) for c in set(text))


def text_width(text: str, size: float, *, mono: bool = False, bold: bool = False) -> float:
    """Width of a line of text in pixels, set in the package's typefaces.

    Characters they do not have (Chinese, emoji) come from the reader's and count as one square each.
    """
    text, faces = visible(text), font_files()
    path = faces.mono if mono else faces.bold if bold else faces.regular
    foreign = 0 if text.isascii() else sum(not _drawn(c, path) for c in text)
    known = "".join(c for c in text if _drawn(c, path)) if foreign else text
    return (_face(path).getlength(known) / 100 + foreign) * size  # pyright: ignore[reportAttributeAccessIssue]


def visible(text: str) -> str:
    r"""Text as it can be shown anywhere: what has no form, or turns its neighbours around, as an escape.

    XML knows no control characters, and a name read from a file may hold anything.

    Example:
        >>> visible("a\x00b\nc")
        'a\\x00b c'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(c) for c in text)


def _visible(letter: str) -> str:
    code = ord(letter)
    if letter in "\t\n\r":
        return " "
    if code in TURNING or code & 0xFFFE == 0xFFFE or unicodedata.category(letter) in ("Cc", "Cs"):
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    return letter


def _fitting(text: str, size: float, width: float, mono: bool) -> int:
    """The number of characters that fit, by bisection; at least one."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if text_width(text[:middle], size, mono=mono) <= width:
            low = middle
        else:
            high = middle - 1
    return low


def _breaking(word: str, most: int) -> int:
    """Where to break a word: behind a dot, line or slash in the latter half of what fits, else where it is full."""
    marks = [i + 1 for i in range(most // 2, most) if word[i] in "._/-:"]
    return marks[-1] if marks else most


def wrap(text: str, size: float, width: float) -> list[str]:
    """Lines of at most that width; a word that is wider is broken, a very long one shortened first."""
    room = width * (1 - SPARE)
    lines: list[str] = []
    for word in visible(text).split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= room:
            lines[-1] = longer
            continue
        rest = shorten(word, size, room * MOST_LINES, mono=False)
        while text_width(rest, size) > room:
            count = _breaking(rest, _fitting(rest, size, room, mono=False))
            lines.append(rest[:count])
            rest = rest[count:]
        lines.append(rest)
    return lines


def shorten(text: str, size: float, width: float, *, mono: bool = True) -> str:
    """The text, with its middle left out if it is wider than that."""
    text = visible(text)
    if text_width(text, size, mono=mono) <= width:
        return text
    room = (width - text_width("…", size, mono=mono)) / 2
    head, tail = _fitting(text, size, room, mono), _fitting(text[::-1], size, room, mono)
    return f"{text[:head]}…{text[len(text) - tail :]}"
