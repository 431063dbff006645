"""CEL behind one door: expressions are compiled and checked here, and evaluated to plain JSON.

This is the only module that imports CEL. What had to be learnt about its binding (cel-expr-python 0.1.3):

- A failed evaluation is a *value* of type ERROR; its text may quote data, so it is never shown.
- Handing out an optional value crashes the process. Optional values are therefore refused at load wherever they
  could become part of a result (see `_escaping`).
- A text is cut at its first NUL on the way in. Such texts travel with another character in its place.
- Everything handed in is converted, read or not; so only what is read is handed in.
- Structures nested very deep, or that contain themselves, crash the process; they are refused before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import Any, Final

import msgspec
from cel_expr_python import cel

from shadow.expressions.direct import CelNeededError, compile_direct
from shadow.expressions.faults import CompileError, EvaluationError, Mistake, explain, kind_of, mistakes_in
from shadow.expressions.paths import prune, read_by
from shadow.expressions.tree import Call, Comprehension, Listing, Mapped, Node, Select, Tree, children, read
from shadow.json import Json


class Kind(Enum):
    """What an expression has to give."""

    ANY = "any JSON value"
    BOOL = "true or false"
    TEXT = "text"
    KEY = "text or a whole number"
    OBJECT = "an object"
    ITEMS = "a list"


_TYPES: Final[dict[Kind, tuple[type, ...]]] = {
    Kind.BOOL: (bool,),
    Kind.TEXT: (str,),
    Kind.KEY: (str, int),
    Kind.OBJECT: (dict,),
    Kind.ITEMS: (list,),
}
_STATIC_TYPES: Final[dict[Kind, frozenset[str]]] = {
    Kind.ANY: frozenset({"BOOL", "INT", "UINT", "DOUBLE", "STRING", "NULL", "LIST", "MAP", "TIMESTAMP"}),
    Kind.BOOL: frozenset({"BOOL"}),
    Kind.TEXT: frozenset({"STRING", "TIMESTAMP"}),
    Kind.KEY: frozenset({"STRING", "INT", "UINT"}),
    Kind.OBJECT: frozenset({"MAP"}),
    Kind.ITEMS: frozenset({"LIST"}),
}
_NAMES_OF_TYPES: Final = {
    "BOOL": "true or false",
    "INT": "a number",
    "UINT": "a number",
    "DOUBLE": "a number",
    "STRING": "text",
    "NULL": "null",
    "LIST": "a list",
    "MAP": "an object",
    "TIMESTAMP": "text",
    "BYTES": "bytes, which JSON cannot hold",
    "DURATION": "a duration, which JSON cannot hold (use string(…))",
    "TYPE": "a type, which JSON cannot hold",
}
_DECLARED_TYPES: Final = {"now": cel.Type.INT, "since": cel.Type.INT} | dict.fromkeys(
    ("id", "key", "name", "channel", "suffix"), cel.Type.STRING
)
_CONFIG: Final = cel.NewEnvConfigFromYaml(
    "name: contract\nextensions:\n" + "".join(f"- name: {name}\n" for name in ("optional", "strings", "math", "lists"))
)
_SPARE_CHARACTERS: Final = tuple(map(chr, range(0xFDD0, 0xFDF0)))
"""Code points that Unicode keeps free for internal use; one of them stands in for NUL."""

_encoder = msgspec.json.Encoder()


class Expression:
    """A compiled expression: a pure function from the values of its variables to JSON.

    `variables` are those that it reads; no other has to be given. What it only carries along is not copied.
    """

    __slots__ = ("_direct", "_expression", "_paths", "_types", "kind", "source", "tree", "variables")

    def __init__(self, source: str, kind: Kind, expression: Any, tree: Tree, declared: frozenset[str]) -> None:
        self.source = source
        self.kind = kind
        self.tree = tree
        self._expression = expression
        self._types = _TYPES.get(kind)
        self._paths = read_by(tree.root, declared)
        self._direct = compile_direct(tree)
        self.variables = frozenset(path[0] for path in self._paths)

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"

    def evaluate(self, values: Mapping[str, Json]) -> Json:
        """Return the expression's value; raises EvaluationError, whose message contains no value."""
        if self._direct is None:
            result = self.ask(values)
        else:
            try:
                result = self._direct(values)
            except (KeyError, TypeError, CelNeededError):
                result = self.ask(values)
        if self._types is not None and not isinstance(result, self._types):
            raise EvaluationError(f"it gives {kind_of(result)}, but {self.kind.value} is needed")
        if result is True or result is False:
            self._check_boolean(result)
        return result

    def ask(self, values: Mapping[str, Json]) -> Json:
        """Evaluate by CEL itself: what `evaluate` means, whichever way it takes."""
        carried = prune(values, self._paths)
        spare = _stand_in(carried)
        try:
            value = self._expression.eval(data=_replace(carried, "\0", spare) if spare else carried)
            failed = value.type() == cel.Type.ERROR
            result = value.plain_value()
        except (RuntimeError, TypeError, ValueError, SystemError) as error:
            raise EvaluationError(explain(str(error), self._paths, values)) from None
        if failed:
            raise EvaluationError(explain(result, self._paths, values))
        result = _plain(result)
        return _replace(result, spare, "\0") if spare else result

    def _check_boolean(self, result: bool) -> None:
        """Refuse what Python takes for a whole number."""
        if self.kind is Kind.KEY:
            raise EvaluationError(f"it gives {kind_of(result)}, but {self.kind.value} is needed")


def compile_expression(source: str, variables: frozenset[str], kind: Kind = Kind.ANY) -> Expression:
    """Compile and check `source`, which may use `variables`; raises CompileError with all its mistakes."""
    try:
        expression = _environment(variables).compile(source)
    except RuntimeError as error:
        raise CompileError(mistakes_in(str(error), source, variables)) from None
    tree = read(expression.serialize())
    if any(_escaping(tree.root, tree.optionals, allowed=False)):
        message = "an optional value (`a.?b`) cannot be part of the result"
        hint = "write `?'name': a.?b` in a map, or `a.?b.orValue(…)`"
        raise CompileError((Mistake(1, 1, message, hint),))
    given = expression.return_type().name().partition("<")[0]
    if given not in _STATIC_TYPES[kind] and given != "DYN" and given in _NAMES_OF_TYPES:
        message = f"this gives {_NAMES_OF_TYPES[given]}, but {kind.value} is needed"
        raise CompileError((Mistake(1, 1, message),))
    return Expression(source, kind, expression, tree, variables)


@lru_cache(maxsize=64)
def _environment(variables: frozenset[str]) -> Any:
    types = {name: _DECLARED_TYPES.get(name, cel.Type.DYN) for name in variables}
    return cel.NewEnv(config=_CONFIG, variables=types)


_METHODS: Final = frozenset({"orValue", "or", "value", "hasValue"})
_OPERATORS: Final = frozenset({"_?._", "_[?_]", "_[_]"})


def _escaping(  # noqa: C901 - one case for each kind of node
    node: Node, optionals: frozenset[int], *, allowed: bool
) -> Iterator[Node]:
    """Yield the nodes that give an optional value where it is not at once taken apart again."""
    if node.id in optionals and not allowed:
        yield node
        return
    passes_on = node.id in optionals
    match node:
        case Mapped(entries=entries):
            for entry in entries:
                yield from _escaping(entry.value, optionals, allowed=entry.optional)
        case Listing(elements=elements, optional=optional):
            for index, element in enumerate(elements):
                yield from _escaping(element, optionals, allowed=index in optional)
        case Select(operand=operand):
            yield from _escaping(operand, optionals, allowed=True)
        case Call(function=function, target=target, args=args):
            yield from _escaping(target, optionals, allowed=function in _METHODS) if target else ()
            for index, argument in enumerate(args):
                unwraps = function == "or" or (function in _OPERATORS and index == 0)
                takes = unwraps or (function == "_?_:_" and passes_on)
                yield from _escaping(argument, optionals, allowed=takes)
        case Comprehension():
            for child in children(node):
                yield from _escaping(child, optionals, allowed=False)
        case _:
            return


def _stand_in(carried: dict[str, Json]) -> str:
    """Check that CEL can carry these values; returns a character to put in the place of NUL if there is one."""
    try:
        text = _encoder.encode(carried)
    except RecursionError:
        raise EvaluationError("it reads something nested too deep") from None
    except OverflowError:
        raise EvaluationError("a number is too big for an expression (whole numbers have 64 bits)") from None
    except (TypeError, ValueError):
        raise EvaluationError("it reads something that is no JSON value") from None
    if b"\\u0000" not in text:
        return ""
    decoded = text.decode()
    for spare in _SPARE_CHARACTERS:
        if spare not in decoded:
            return spare
    raise EvaluationError("a text holds characters that an expression cannot carry")


def _replace(value: Json, old: str, new: str) -> Json:
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, list):
        return [_replace(item, old, new) for item in value]
    if isinstance(value, dict):
        return {key.replace(old, new): _replace(item, old, new) for key, item in value.items()}
    return value


def _plain(value: Any) -> Json:
    """Return the JSON form of what CEL gave: a timestamp becomes the text that JavaScript's Date writes."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise EvaluationError("a map has a key that is not text")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    raise EvaluationError("it gives something that JSON cannot hold (bytes, a duration, an infinite number)")
