"""What a pickle would make, found out without making it.

``torch.load(weights_only=True)`` refuses foreign code, but it believes what a file says of its sizes, allocates by it,
and calls a few harmless functions with whatever arguments the file gives. So the opcodes are read here first, by a
machine whose values are only descriptions: of storages, of tensors over them, and of what a pickle would call.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .calls import call, knows
from .planned import Called, Named, OddPickleError, Planned, Tables

#: The opcodes that the safe reader of PyTorch knows; the others are followed only to name what they want.
READ = {
    *("APPEND", "APPENDS", "BUILD", "GLOBAL", "MARK", "NEWOBJ", "PROTO", "REDUCE", "SETITEM", "SETITEMS", "STOP"),
    *("BINFLOAT", "BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINSTRING", "BINPERSID"),
    *("BINGET", "BINPUT", "LONG_BINGET", "LONG_BINPUT", "NEWFALSE", "NEWTRUE", "NONE"),
    *("EMPTY_DICT", "EMPTY_LIST", "EMPTY_SET", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_SET": set,
    "EMPTY_TUPLE": tuple,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
#: Opcodes that any pickle may have, and further ones for every storage; a tensor takes some forty.
MOST_STEPS = 1_000_000
STEPS_EACH = 100
#: Values that wait on the stack at once, and collections that are open.
MOST_WAITING = 300_000
MOST_OPEN = 10_000
_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # of Python 2


@dataclass
class Content:
    """What a pickle would make.

    Args:
        top: the outermost thing: dicts, lists and numbers as they are, the rest as descriptions.
        foreign: whatever it wants besides tensors, in order.
        unread: opcodes that the safe reader of PyTorch does not know.
        tables: every storage and every tensor.
    """

    top: Any = None
    foreign: dict[str, None] = field(default_factory=dict)
    unread: dict[str, None] = field(default_factory=dict)
    tables: Tables = field(default_factory=Tables)


def follow(
    stream: Any, tables: Tables | None = None, allowed: frozenset[str] = frozenset(), storages: int = 0
) -> Content:
    """What one pickle would make.

    Args:
        stream: the pickle's bytes, or a file (a memory map) that stands at its beginning and is left at its end.
        tables: of the file's other pickles.
        allowed: globals that the user has allowed by ``torch.serialization.add_safe_globals``.
        storages: how many the file has room for; the more of them it uses, the more opcodes its pickle may have.

    Raises:
        OddPickleError: for a damaged pickle, and for one that no ``torch.save`` writes.
    """
    machine = _Machine(Content(tables=tables or Tables()), allowed)
    most = MOST_STEPS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in damaged names
            for steps, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
                if steps >= most:
                    used = min(storages, len(machine.content.tables.storages))
                    most = MOST_STEPS + STEPS_EACH * used
                    if steps >= most:
                        blocks = "block" if used == 1 else "blocks"
                        raise OddPickleError(f"takes more than {most:,} steps for {used:,} {blocks} of numbers")
                machine.step(opcode, argument)
        machine.content.top = machine.stack.pop()
    except MemoryError as error:
        raise OddPickleError("takes more memory than there is") from error
    except OddPickleError:
        if not machine.content.foreign:  # else it is refused for that, and this follows from it
            raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError, RecursionError) as error:
        raise OddPickleError(f"is damaged or truncated ({error})"[:200]) from error
    return machine.content


class _Machine:
    """The stack machine that a pickle is written for; its values are descriptions."""

    def __init__(self, content: Content, allowed: frozenset[str]) -> None:
        self.content, self.allowed = content, allowed
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.acts: dict[str, Callable[[Any], None]] = {
            name: getattr(self, f"_{name.lower()}", self._number_or_text) for name in READ
        }
        self.acts |= dict.fromkeys(("PROTO", "STOP"), lambda _: None)
        self.acts |= dict.fromkeys(("BINPUT", "LONG_BINPUT"), self._put)
        self.acts |= dict.fromkeys(("BINGET", "LONG_BINGET"), self._get)
        for name, value in _CONSTANTS.items():
            self.acts[name] = lambda _, value=value: self.stack.append(value)
        for name, empty in _EMPTY.items():
            self.acts[name] = lambda _, empty=empty: self.stack.append(empty())
        for name, count in _TUPLES.items():
            self.acts[name] = lambda _, count=count: self.stack.append(tuple(self._pop(count)))

    def step(self, opcode: Any, argument: Any) -> None:
        """Does what one opcode says."""
        act = self.acts.get(opcode.name)
        if act is None:
            self._unread(opcode, argument)
        else:
            act(argument)
        if len(self.stack) > MOST_WAITING:
            raise OddPickleError(f"puts more than {MOST_WAITING:,} values onto its stack")

    def _number_or_text(self, argument: Any) -> None:
        self.stack.append(argument)

    def _put(self, argument: int) -> None:
        self.memo[argument] = self.stack[-1]

    def _get(self, argument: int) -> None:
        self.stack.append(self.memo[argument])

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise OddPickleError("is damaged: it takes more from its stack than it put there")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _mark(self, _: Any) -> None:
        if len(self.marks) >= MOST_OPEN:
            raise OddPickleError(f"nests more than {MOST_OPEN:,} collections")
        self.marks.append(self.stack)
        self.stack = []

    def _above_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def _tuple(self, _: Any) -> None:
        items = tuple(self._above_mark())
        self.stack.append(items)

    def _append(self, _: Any) -> None:
        self._extend(self._pop(1))

    def _appends(self, _: Any) -> None:
        self._extend(self._above_mark())

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)
        elif not isinstance(self.stack[-1], Called):
            raise OddPickleError("appends to what is not a list")

    def _setitem(self, _: Any) -> None:
        self._set(self._pop(2))

    def _setitems(self, _: Any) -> None:
        self._set(self._above_mark())

    def _set(self, items: list[Any]) -> None:
        into = self.stack[-1]
        if not isinstance(into, dict | Called) or len(items) % 2:
            raise OddPickleError("sets items of what is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.content.tables.check_key(key)
            if isinstance(into, dict):
                into[key] = value

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._want(f"{_MODULES.get(module, module)}.{name}")

    def _want(self, name: str) -> None:
        if name in self.allowed:
            self.stack.append(Called(name))
            return
        if not knows(name):
            self.content.foreign[name] = None
        self.stack.append(Named(name))

    def _reduce(self, _: Any) -> None:
        function, arguments = self._pop(2)
        try:
            made = call(function, arguments, self.content.tables)
        except OddPickleError:
            if not self.content.foreign:  # else it is refused for that, and the rest only tells what else it wants
                raise
            made = Called("?")
        self.stack.append(made)

    def _newobj(self, _: Any) -> None:
        function, arguments = self._pop(2)
        if isinstance(function, Named) and knows(function.name):
            if function.name != "torch.nn.parameter.Parameter" or not isinstance(arguments[0], Planned):
                raise OddPickleError(f"makes a new {function.name} by hand")
            self.stack.append(arguments[0])
        else:
            self.stack.append(call(function, arguments, self.content.tables))

    def _build(self, _: Any) -> None:
        state = self._pop(1)[0]
        into = self.stack[-1]
        if isinstance(into, Called) and not knows(into.by):
            into.state = state
        elif not isinstance(into, dict) or not isinstance(state, dict) or not set(state) <= {"_metadata"}:
            raise OddPickleError("changes what it made by hand")

    def _binpersid(self, _: Any) -> None:
        identity = self._pop(1)[0]
        if isinstance(identity, tuple) and identity and identity[0] == "module":  # with its source, before PyTorch 1.6
            self.stack.append(identity[1])
            return
        self.stack.append(self.content.tables.store(identity))

    def _unread(self, opcode: Any, argument: Any) -> None:
        """Follows what the safe reader would stop at, as far as needed to name what is wanted."""
        name = opcode.name
        if name == "FRAME":
            return
        self.content.unread[name] = None
        if name == "STACK_GLOBAL":
            module, attribute = self._pop(2)
            self._want(f"{_MODULES.get(module, module)}.{attribute}")
            return
        if name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
            return
        plain: Any = argument if isinstance(argument, str | int | float | bytes) else Called("?")
        if name == "INST":
            self._global(str(argument))
            wanted = self.stack.pop()
            plain = Called(getattr(wanted, "name", "?"))
        takes = [kind.name for kind in opcode.stack_before]
        if "mark" in takes:
            self._above_mark()
            takes = takes[: takes.index("mark")]
        if takes:
            self._pop(len(takes))
        for _ in opcode.stack_after:
            self.stack.append(plain)
