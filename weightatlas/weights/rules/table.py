"""The table from operators to rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...errors import ArgumentError, GraphError
from ..step import Rule, Step
from ..step import no_rule as step_error

_RULES: dict[str, Rule] = {}
_TAUGHT: set[str] = set()
_VERSION = [0]


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Enters a function as the rule of some operators."""

    def enter(function: Rule) -> Rule:
        for name in operators:
            _RULES[name] = function
        return function

    return enter


def register_rule(operator: Any, rule: Rule) -> None:
    """Teaches expanded weights an operator; it replaces the rule that the operator had.

    Args:
        operator: its name without overload, e.g. ``"roll"``, or the operator itself (``torch.ops.aten.roll.default``,
            ``torch.ops.mylib.myop``).
        rule: a function of one step that gives pairs (input node, kernel on it): what the target gets from the
            operator's output (``step.kernel``) turned into what it gets from the operator's inputs.
            ``step.arguments`` holds the operator's arguments by name, ``step.constant(name)`` the value of one that is
            a parameter, ``step.shape(node)`` sizes, ``step.needs_position()`` asks for a walk in which windows are
            absolute, ``step.full()`` gives the kernel with all channels.

    Raises:
        ArgumentError: for a rule that cannot be called, or an operator without a name.

    Example:
        >>> import weightatlas as wa
        >>> def threefold(step):
        ...     return [(step.source, step.kernel.scaled(3.0))]
        >>> wa.register_rule("mylib_threefold", threefold)
    """
    packet = getattr(operator, "overloadpacket", operator)
    name = packet if isinstance(packet, str) else getattr(packet, "__name__", "")
    name = name.split("::")[-1]
    name = name.split(".")[1] if name.startswith("aten.") else name.split(".")[0]
    if not name:
        raise ArgumentError(f"register_rule takes an operator or its name, not {operator!r}")
    if not callable(rule):
        raise ArgumentError(f"the rule of {name!r} must be a function of one step, not {rule!r}")
    _RULES[name] = rule
    _TAUGHT.add(name)
    _VERSION[0] += 1


def taught_so_far() -> int:
    """How often rules were registered: what was planned before does not hold after."""
    return _VERSION[0]


def built_in(operator: str) -> bool:
    """Whether an operator has a rule of ours, which is exact for every reading."""
    return operator in _RULES and operator not in _TAUGHT


def rule_for(step: Step) -> Rule:
    """The rule of a step's operator.

    Raises:
        GraphError: if it has none, with the module and what to do.
    """
    found = _RULES.get(step.operator)
    if found is None:
        raise no_rule(step)
    return found


def no_rule(step: Step, why: str = "") -> GraphError:
    """The error for an operator that cannot be passed."""
    return step_error(step.graph, step.node, why)
