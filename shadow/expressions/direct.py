"""The common expressions, turned into plain Python: a tenth of the cost of a call into CEL.

Only what is certain is done here. Whenever a value is not of the expected kind (a missing key, a number added to a
text), `CelNeededError`, KeyError or TypeError is raised and CEL evaluates the whole expression anew, so that what is an
error, and what an error means, is decided in one place. Values that are merely carried along are not copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from shadow.expressions.paths import path_of
from shadow.expressions.tree import Call, Const, Entry, Ident, Listing, Mapped, Node, Select, Tree
from shadow.json import Json

Values: TypeAlias = Mapping[str, Json]
Direct: TypeAlias = Callable[[Values], Json]


class CelNeededError(Exception):
    """Only CEL can tell what this comes to."""


class _UnsupportedError(Exception):
    """This form of expression is left to CEL altogether."""


ABSENT: Final = object()
"""What an optional value holds when it holds nothing."""


def compile_direct(tree: Tree) -> Direct | None:
    """Return a function equal to the expression, or None if it uses anything beyond the common forms."""
    try:
        return _Compiler(tree.optionals).value(tree.root)
    except _UnsupportedError:
        return None


class _Compiler:
    def __init__(self, optionals: frozenset[int]) -> None:
        self._optionals = optionals

    def value(self, node: Node) -> Direct:
        """Compile a node that gives a plain value."""
        if node.id in self._optionals:
            raise _UnsupportedError
        match node:
            case Const(value=value, plain=True):
                return lambda values: value
            case Ident(name=name):
                return lambda values: values[name]
            case Select(test=True, operand=operand, field=field):
                return _has(self.value(operand), field)
            case Select(operand=operand, field=field):
                return self._field(operand, field)
            case Listing(elements=elements, optional=optional) if not optional:
                parts = tuple(map(self.value, elements))
                return lambda values: [part(values) for part in parts]
            case Mapped(message="", entries=entries):
                return self._object(entries)
            case Call():
                return self._call(node)
            case _:
                raise _UnsupportedError

    def optional(self, node: Node) -> Direct:
        """Compile `a.?b`, which gives a value or ABSENT."""
        match node:
            case Call(function="_?._", target=None, args=(operand, Const(value=str(field)))):
                source = self.optional(operand) if operand.id in self._optionals else self.value(operand)
                return _optional_field(source, field)
            case _:
                raise _UnsupportedError

    def _field(self, operand: Node, field: str) -> Direct:
        path = path_of(operand)
        match path:
            case (variable,):
                return lambda values: values[variable][field]
            case (variable, middle):
                return lambda values: values[variable][middle][field]
            case _:
                source = self.value(operand)
                return lambda values: source(values)[field]

    def _object(self, entries: tuple[Entry, ...]) -> Direct:
        always: list[tuple[str, Direct]] = []
        perhaps: list[tuple[str, Direct]] = []
        for entry in entries:
            if not isinstance(entry.key, Const) or not isinstance(entry.key.value, str):
                raise _UnsupportedError
            if entry.optional:
                perhaps.append((entry.key.value, self.optional(entry.value)))
            else:
                always.append((entry.key.value, self.value(entry.value)))
        if len({key for key, _ in always + perhaps}) < len(entries):
            raise _UnsupportedError
        if not perhaps:
            return lambda values: {key: part(values) for key, part in always}

        def build(values: Values) -> Json:
            built = {key: part(values) for key, part in always}
            for key, part in perhaps:
                if (value := part(values)) is not ABSENT:
                    built[key] = value
            return built

        return build

    def _call(self, call: Call) -> Direct:  # noqa: C901 - one line for each operator
        match call:
            case Call(function="_?_:_", args=(condition, then, otherwise)):
                return _choose(self.value(condition), self.value(then), self.value(otherwise))
            case Call(function="_&&_", args=(left, right)):
                return _decide(self.value(left), self.value(right), decisive=False)
            case Call(function="_||_", args=(left, right)):
                return _decide(self.value(left), self.value(right), decisive=True)
            case Call(function="!_", args=(operand,)):
                return _negate(self.value(operand))
            case Call(function="_==_", args=(operand, Const() as constant)):
                return _equals(self.value(operand), constant)
            case Call(function="_!=_", args=(operand, Const() as constant)):
                equal = _equals(self.value(operand), constant)
                return lambda values: not equal(values)
            case Call(function="_+_"):
                return self._joined(call)
            case Call(function="_[_]", args=(operand, Const(value=str(field)))):
                return _field_of_object(self.value(operand), field)
            case Call(function="@in", args=(Const(value=str(field)), operand)):
                return _contains(self.value(operand), field)
            case Call(function="string", target=None, args=(operand,)):
                return _text(self.value(operand))
            case Call(function="orValue", target=optional, args=(default,)) if optional is not None:
                return _or_value(self.optional(optional), self.value(default))
            case _:
                raise _UnsupportedError

    def _joined(self, call: Call) -> Direct:
        """Compile `'session:' + a + b`: with one literal text in it, every part has to be text."""
        leaves = list(_leaves(call))
        if not any(isinstance(leaf, Const) and isinstance(leaf.value, str) for leaf in leaves):
            raise _UnsupportedError
        parts = tuple(map(self.value, leaves))
        if len(parts) == 2:
            first, second = parts
            # Python refuses to add anything but a text to a text, as CEL does.
            return lambda values: first(values) + second(values)
        return lambda values: "".join([part(values) for part in parts])


def _leaves(node: Node) -> list[Node]:
    if isinstance(node, Call) and node.function == "_+_":
        return [leaf for arg in node.args for leaf in _leaves(arg)]
    return [node]


def _has(source: Direct, field: str) -> Direct:
    def has(values: Values) -> bool:
        value = source(values)
        if type(value) is not dict:
            raise CelNeededError
        return field in value

    return has


def _optional_field(source: Direct, field: str) -> Direct:
    def get(values: Values) -> Json:
        value = source(values)
        if value is ABSENT:
            return ABSENT
        if type(value) is not dict:
            raise CelNeededError
        return value.get(field, ABSENT)

    return get


def _field_of_object(source: Direct, field: str) -> Direct:
    return lambda values: source(values)[field]


def _or_value(source: Direct, default: Direct) -> Direct:
    def get(values: Values) -> Json:
        value = source(values)
        return default(values) if value is ABSENT else value

    return get


def _contains(source: Direct, field: str) -> Direct:
    def contains(values: Values) -> bool:
        value = source(values)
        if type(value) is not dict:
            raise CelNeededError
        return field in value

    return contains


def _text(source: Direct) -> Direct:
    def text(values: Values) -> str:
        value = source(values)
        if type(value) is str:
            return value
        if type(value) is int and -(2**63) <= value < 2**63:
            return str(value)
        raise CelNeededError

    return text


def _choose(condition: Direct, then: Direct, otherwise: Direct) -> Direct:
    def choose(values: Values) -> Json:
        chosen = condition(values)
        if chosen is True:
            return then(values)
        if chosen is False:
            return otherwise(values)
        raise CelNeededError

    return choose


def _decide(left: Direct, right: Direct, *, decisive: bool) -> Direct:
    def decide(values: Values) -> bool:
        first = left(values)
        decided: bool = first is decisive
        if decided:
            return decisive
        second = right(values)
        if type(first) is bool and type(second) is bool:
            return second is True
        raise CelNeededError

    return decide


def _negate(operand: Direct) -> Direct:
    def negate(values: Values) -> bool:
        value = operand(values)
        if type(value) is not bool:
            raise CelNeededError
        return not value

    return negate


def _equals(operand: Direct, constant: Const) -> Direct:
    expected = constant.value
    if not constant.plain or type(expected) is float:
        raise _UnsupportedError
    if expected is None or isinstance(expected, bool):
        return lambda values: operand(values) is expected

    def equals(values: Values) -> bool:
        value = operand(values)
        # True == 1 in Python, not in CEL.
        equal: bool = value == expected
        return equal and type(value) is not bool

    return equals
