"""Words of others, of servers and libraries, as they can stand in a sentence of ours."""

from __future__ import annotations

#: Characters of somebody else's words that are repeated.
MOST = 200


def quoted(words: object, most: int = MOST) -> str:
    r"""Somebody else's words as a piece of one line: on a terminal they can be read and nothing else.

    Args:
        words: an error, a status, a header.
        most: characters; what is longer is cut, and ends in an ellipsis.

    Example:
        >>> quoted("No\x1b[31mway\r\n  at all")
        'No\\x1b[31mway at all'
        >>> quoted("abcdef", most=3)
        'abc …'
    """
    plain = " ".join(str(words)[: 100 * most].split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in plain)
    return shown if len(shown) <= most else f"{shown[:most]} …"


def named(error: BaseException, most: int = MOST) -> str:
    """An error with its kind, ``KeyError: 'x'``.

    Args:
        error: any.
        most: characters of its words.
    """
    return f"{type(error).__name__}: {quoted(error, most)}".rstrip(": ")
