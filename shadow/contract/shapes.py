"""The shapes of observed values: which fields, of which kinds, how often. Never a value.

A field's name is taken for a part of the API. Where an object holds entries by key, its keys are values: they are
forgotten when there are many of them, and never written where they do not read as a name.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from shadow.json import Json

MANY = 24
"""An object with more different keys than this holds entries by key (and the keys are values), not fields."""
_DEEP = 6


@dataclass(slots=True)
class Shape:
    """What was seen at one place: how often, of which kinds, and what stands below."""

    seen: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    fields: dict[str, Shape] = field(default_factory=dict)
    items: Shape | None = None
    crowded: bool = False

    def add(self, value: Json, depth: int = 0) -> Shape:
        """Take note of one more value."""
        self.seen += 1
        self.kinds[_kind(value)] += 1
        if depth >= _DEEP:
            return self
        if isinstance(value, dict) and not self.crowded:
            self._add_fields(value, depth)
        elif isinstance(value, list):
            self.items = self.items or Shape()
            for item in value[:MANY]:
                self.items.add(item, depth + 1)
        return self

    def is_a(self, kind: str) -> bool:
        """Tell whether nearly everything seen here is of a kind."""
        return self.kinds[kind] * 2 > self.seen

    def always(self, name: str) -> bool:
        """Tell whether every object seen has the field."""
        return name in self.fields and self.fields[name].seen == self.kinds["object"] == self.seen

    def _add_fields(self, value: dict[str, Json], depth: int) -> None:
        for name, item in value.items():
            self.fields.setdefault(name, Shape()).add(item, depth + 1)
        if len(self.fields) > MANY:
            self.crowded = True
            self.fields.clear()


def _kind(value: Json) -> str:
    if value is None:
        return "null"
    kinds = {bool: "flag", int: "number", float: "number", str: "text", list: "list", dict: "object"}
    return kinds.get(type(value), "other")
