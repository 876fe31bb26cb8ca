"""The wire format of protocol buffers: messages as fields of a number, a wire type and a value.

Nothing is copied, nothing is followed into the fields, and no length is believed that reaches beyond the message.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
WIDTHS = {FIXED64: 8, FIXED32: 4}
GROUPS = (3, 4)  # nobody has written them for twenty years


class WireError(ValueError):
    """What is wrong with a message, as part of a sentence."""


def fields(message: memoryview) -> Iterator[tuple[int, int, Any]]:
    """The fields of a message in their order: number, wire type, and an int or the bytes.

    Raises:
        WireError: at the first that cannot be.
    """
    at, end = 0, len(message)
    while at < end:
        key, at = varint(message, at)
        number, wire = key >> 3, key & 7
        if not 0 < number < 2**29:
            raise WireError(f"a field has the number {number}")
        if wire == VARINT:
            value, at = varint(message, at)
            yield number, wire, value
            continue
        if wire in GROUPS:
            raise WireError("it has a group, which no graph has")
        if wire == BYTES:
            length, at = varint(message, at)
        elif wire in WIDTHS:
            length = WIDTHS[wire]
        else:
            raise WireError(f"a field is of the wire type {wire}, which does not exist")
        if length > end - at:
            raise WireError(f"a field of {length} bytes stands where {end - at} are left")
        yield number, wire, message[at : at + length]
        at += length


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of up to 64 bits, seven in a byte, and where the next thing begins.

    Raises:
        WireError: if the message ends within it, or it is longer.
    """
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise WireError("it ends within a number")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 2**64:
                break
            return value, at
    raise WireError("a number is longer than 64 bits")


def chosen(message: memoryview, expected: Mapping[int, tuple[int, ...]]) -> dict[int, list[tuple[int, Any]]]:
    """The wire types and values of some fields, by number, in their order; the rest is passed over.

    Args:
        message: whose fields.
        expected: the numbers that are wanted, and the wire types that each may have.

    Raises:
        WireError: if one of them has another.
    """
    found: dict[int, list[tuple[int, Any]]] = {number: [] for number in expected}
    for number, wire, value in fields(message):
        if number in expected:
            if wire not in expected[number]:
                raise WireError(f"field {number} is of the wire type {wire}")
            found[number].append((wire, value))
    return found


def merged(found: list[tuple[int, Any]]) -> memoryview:
    """A message that may be spread over several fields: their bytes one after another, as the format has it."""
    return found[0][1] if len(found) == 1 else memoryview(b"".join(value for _, value in found))
