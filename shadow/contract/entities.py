"""What the contract says about an entity: how the legacy shows it, which fields count, how they compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from shadow.contract.problems import ExpressionError
from shadow.expressions import EvaluationError, Expression
from shadow.json import Json


def evaluate(expression: Expression, values: Mapping[str, Json], procedure: str, where: str, key: str) -> Json:
    """Evaluate, and on failure say in which procedure and at which key of which table of the contract."""
    try:
        return expression.evaluate(values)
    except EvaluationError as error:
        raise ExpressionError(procedure, f"{where}.{key}", str(error)) from None


class Item(NamedTuple):
    """One entity as the legacy shows it. `name` is its key in the object that listed it, empty for a list."""

    name: str
    value: Json


@dataclass(frozen=True, slots=True)
class ListQuery:
    """How to list all entities of a kind, page by page."""

    where: str
    query: str
    input: Expression
    items: Expression
    cursor: Expression | None
    cursor_field: str
    lacks: frozenset[str]
    """Fields that a listed item does not show; the single read does."""

    def input_for(self, cursor: Json = None) -> Json:
        """Return the query's input for the page at `cursor`; None asks for the first page."""
        first = evaluate(self.input, {"cursor": cursor}, self.query, self.where, "input")
        if cursor is None or "cursor" in self.input.variables:
            return first
        return {**(first or {}), self.cursor_field: cursor}

    def items_of(self, output: Json) -> list[Item]:
        """Return the items on a page."""
        found = evaluate(self.items, {"output": output}, self.query, self.where, "items")
        if isinstance(found, dict):
            return [Item(name, value) for name, value in found.items()]
        if isinstance(found, list):
            return [Item("", value) for value in found]
        raise ExpressionError(self.query, f"{self.where}.items", "it gives neither a list nor an object")

    def cursor_after(self, output: Json) -> Json:
        """Return the next page's cursor, None when this was the last page."""
        if self.cursor is None:
            return None
        return evaluate(self.cursor, {"output": output}, self.query, self.where, "cursor")


@dataclass(frozen=True, slots=True)
class GetQuery:
    """How to read one entity."""

    where: str
    query: str
    input: Expression
    item: Expression

    def input_for(self, key: str) -> Json:
        """Return the query's input for the entity named `key`."""
        return evaluate(self.input, {"key": key}, self.query, self.where, "input")

    def item_of(self, output: Json, key: str) -> Json:
        """Return the entity in the query's output, None when it does not exist."""
        return evaluate(self.item, {"output": output, "key": key}, self.query, self.where, "item")


@dataclass(frozen=True, slots=True)
class Mask:
    """How the legacy masks a secret when it is read: its first `keep` characters, then `text`."""

    field: str
    keep: int
    text: str

    def apply(self, secret: str) -> str:
        """Return the secret as the legacy shows it."""
        return secret[: self.keep] + self.text


@dataclass(frozen=True, slots=True)
class Ignore:
    """A difference that is known and left alone until a day on which somebody has to look again."""

    field: str
    owner: str
    reason: str
    expires: date

    def expired(self, today: date) -> bool:
        """Tell whether `today` is after the last day on which the difference is ignored."""
        return today > self.expires


@dataclass(frozen=True, slots=True)
class Entity:
    """A kind of entity. Fields that are null and fields that are absent are the same everywhere."""

    name: str
    phase: str
    key: Expression
    fields: Mapping[str, Expression | None]
    """The fields that make up the state; the expression reads one from an item, None means the field of that name."""
    list: ListQuery | None
    get: GetQuery | None
    masks: tuple[Mask, ...]
    secret: tuple[str, ...]
    ignore: tuple[Ignore, ...]
    blank: frozenset[str]

    def key_of(self, item: Json, name: str = "") -> str:
        """Return the key of an entity as the legacy shows it."""
        return str(evaluate(self.key, {"item": item, "name": name}, self.name, self.where, "key"))

    def fields_of(self, item: Json, name: str = "") -> dict[str, Json]:
        """Return the fields that count; what the item does not show is left out."""
        return dict(self._shown(item, name))

    def change_from(self, data: Json) -> dict[str, Json]:
        """Return what of `data` belongs to the state: the entity's fields; what is absent is left out."""
        return {field: data[field] for field in self.fields if field in data}

    def comparable(self, fields: Mapping[str, Json]) -> dict[str, Json]:
        """Return `fields` without what counts as absent: null, and an empty text in a field called `blank`."""
        return {
            field: value
            for field, value in fields.items()
            if value is not None and not (value == "" and field in self.blank)
        }

    @property
    def where(self) -> str:
        """The place in the contract."""
        return f"entity.{self.name}"

    def _shown(self, item: Json, name: str) -> Iterator[tuple[str, Json]]:
        for field, expression in self.fields.items():
            if expression is not None:
                values = {"item": item, "name": name}
                yield field, evaluate(expression, values, self.name, self.where, f"fields.{field}")
            elif isinstance(item, dict) and field in item:
                yield field, item[field]
