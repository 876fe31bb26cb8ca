"""Layer names as paths: reversible, and safe on every file system, in every URL and on every static host::

blocks.4.1        →  blocks.4.1            a-z 0-9 . _ - stay
relu#2            →  relu~0352             any other byte of UTF-8 is ~ and its three decimal digits
Mixed_5b          →  ~mixed_5b             a capital is ~ and the small letter: no two names differ by case alone
.., con, x.       →  ~046~046, ~099on, x~046      nothing hidden, reserved or trimmed
a name too long   →  first~/second         a component that ends in ~ goes on in the next
"""

from __future__ import annotations

import re
from functools import lru_cache

from ..errors import ArgumentError

#: Characters of one component; file systems allow 255 bytes, and temporary names need room.
LONGEST = 180
GOES_ON = "~"
_KEPT = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")
_TOKEN = re.compile(r"~([a-z])|~([0-2][0-9]{2})|([a-z0-9._-])")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)")


def path_of(name: str) -> str:
    """The path of a layer's name: one component, or several joined by ``/`` for a very long name.

    Raises:
        ArgumentError: for an empty name.

    Example:
        >>> path_of("relu#2"), path_of("Mixed_5b"), path_of("..")
        ('relu~0352', '~mixed_5b', '~046~046')
    """
    if not isinstance(name, str) or not name:
        raise ArgumentError(f"a layer's name is a string of at least one character, not {name!r}")
    return _path(name)


@lru_cache(maxsize=4096)
def _path(name: str) -> str:
    pieces: list[list[str]] = [[]]
    for token in (t for c in name for t in _tokens(c)):
        if sum(map(len, pieces[-1])) + len(token) > LONGEST:
            pieces.append([])
        pieces[-1].append(token)
    last = len(pieces) - 1
    return "/".join(_component(p) + GOES_ON * (i < last) for i, p in enumerate(pieces))


def _tokens(character: str) -> list[str]:
    if character in _KEPT:
        return [character]
    if "A" <= character <= "Z":
        return ["~" + character.lower()]
    return [_escaped(b) for b in character.encode("utf-8", "surrogatepass")]


def _escaped(byte: int) -> str:
    return f"~{byte:03d}"


def _component(tokens: list[str]) -> str:
    """Tokens joined, with what no component may begin or end with escaped."""
    first, last = tokens[0], tokens[-1]
    if first == "." or _RESERVED.match("".join(tokens)):
        tokens = [_escaped(ord(first)), *tokens[1:]]
    if last == "." and len(tokens) > 1:
        tokens = [*tokens[:-1], _escaped(ord("."))]
    return "".join(tokens)


@lru_cache(maxsize=4096)
def name_of(path: str) -> str:
    """The layer's name whose path it is: the inverse of :func:`path_of`.

    Raises:
        ArgumentError: for what :func:`path_of` never gives.

    Example:
        >>> name_of("~mixed_5b"), name_of("relu~0352")
        ('Mixed_5b', 'relu#2')
    """
    *begun, last = path.split("/")
    if all(p.endswith(GOES_ON) for p in begun):
        text = "".join(p.removesuffix(GOES_ON) for p in begun) + last
        found = _decoded(text)
        if found and path_of(found) == path:
            return found
    raise ArgumentError(f"{path!r} is the path of no layer's name")


def _decoded(text: str) -> str:
    data, at = bytearray(), 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            return ""
        capital, byte, plain = match.groups()
        number = ord(capital.upper()) if capital else int(byte) if byte else ord(plain)
        if number > 255:
            return ""
        data.append(number)
        at = match.end()
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return ""


def split_path(parts: list[str]) -> tuple[str, list[str]]:
    """The path of one name at the front of components, and the components behind it.

    Example:
        >>> split_path(["blocks.4.1", "display", "3.webp"])
        ('blocks.4.1', ['display', '3.webp'])
    """
    count = next((i for i, p in enumerate(parts) if not p.endswith(GOES_ON)), len(parts) - 1) + 1
    return "/".join(parts[:count]), parts[count:]
