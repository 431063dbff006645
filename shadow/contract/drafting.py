"""A first contract from what was observed: guesses by names and shapes, for a human to correct.

Names are read as people give them: `session.updateTitle` patches a session and becomes `session-title-updated`;
`config.removeProvider` deletes a provider and becomes `provider-removed`. Nothing observed but names of procedures
and fields gets into the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from shadow.contract.shapes import Shape

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
_RESERVED = frozenset({"in", "true", "false", "null"})
_SECRET = re.compile(r"api_?key|secret|token|password|passphrase|credential|private_?key", re.IGNORECASE)

_EFFECTS: Final = {
    "create": ("create", "created"),
    "add": ("create", "added"),
    "insert": ("create", "added"),
    "new": ("create", "created"),
    "register": ("create", "registered"),
    "update": ("patch", "updated"),
    "edit": ("patch", "edited"),
    "rename": ("patch", "renamed"),
    "set": ("patch", "set"),
    "change": ("patch", "changed"),
    "toggle": ("patch", "toggled"),
    "enable": ("patch", "enabled"),
    "disable": ("patch", "disabled"),
    "select": ("put", "selected"),
    "save": ("put", "saved"),
    "put": ("put", "put"),
    "replace": ("put", "replaced"),
    "upsert": ("put", "saved"),
    "delete": ("delete", "deleted"),
    "remove": ("delete", "removed"),
    "destroy": ("delete", "deleted"),
    "clear": ("delete", "cleared"),
}

HEADER = """\
# A first contract, guessed from {calls} observed calls. Correct it, then check it:
#     changeover contract check FILE
# Lines marked CHECK are the ones that a guess gets wrong most easily.

[legacy]
base_path = "{base_path}"
transformer = "{transformer}"
max_request = "30s"               # CHECK: how long a request that was lost may still take effect
"""


CallKind: TypeAlias = Literal["query", "mutation", "subscription"]


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of one procedure. `kind` is what the method and the wire told."""

    procedure: str
    kind: CallKind
    input: Shape = field(default_factory=Shape)
    output: Shape = field(default_factory=Shape)


def draft(observed: Iterable[Observed], *, base_path: str = "/trpc", transformer: str = "none") -> str:
    """Return the text of a valid contract with a rule for every mutation observed."""
    seen = sorted(observed, key=lambda each: each.procedure)
    mutations = [_Guess(each) for each in seen if each.kind == "mutation"]
    queries = [each for each in seen if each.kind == "query"]
    entities: dict[str, list[_Guess]] = {}
    for guess in mutations:
        entities.setdefault(guess.entity, []).append(guess)
    calls = sum(each.input.seen for each in seen)
    parts = [HEADER.format(calls=calls, base_path=base_path, transformer=transformer)]
    parts += [_phase(name) for name in entities] or [
        "[phase.all]               # no mutation was seen\nentities = []\n"
    ]
    parts += [_entity(name, guesses, queries) for name, guesses in entities.items()]
    parts += [guess.written() for guess in mutations]
    parts += [_tap(each) for each in seen if each.kind == "subscription"]
    return "\n".join(parts)


def _phase(entity: str) -> str:
    return f'[phase.{entity}]\nentities = ["{entity}"]\n'


def _entity(name: str, guesses: list[_Guess], queries: list[Observed]) -> str:
    fields = dict.fromkeys(field for guess in guesses for field in guess.fields) or {"id": None}
    lines = [f"[entity.{name}]", *_reading(name, queries)]
    lines += ['key = "item.id"                   # CHECK', f"fields = [{_quoted(fields)}]"]
    secret = [field for field in fields if _SECRET.search(field)]
    if secret:
        lines.append(f"secret = [{_quoted(secret)}]")
    return "\n".join(lines) + "\n"


def _reading(entity: str, queries: list[Observed]) -> Iterator[str]:
    """Yield the queries that seem to list and to read the entity."""
    near = [query for query in queries if entity in {_snake(query.procedure.split(".")[0]), _singular(query.procedure)}]
    listing = next((query for query in near if _items(query.output) is not None), None)
    if listing is not None:
        items = _items(listing.output)
        source = f"output.{items}" if items else "output"
        paged = next((name for name in ("nextCursor", "cursor") if name in listing.output.fields), None)
        cursor = f', cursor = "output.{paged}"' if paged else ""
        yield f'list = {{ query = "{listing.procedure}", items = "{source}"{cursor} }}   # CHECK'
    else:
        yield '# list = { query = "…", items = "output.…" }   # CHECK: no query was seen that lists it'
    reading = next((query for query in near if query is not listing and _key_field(query.input, entity)), None)
    if reading is not None:
        key = _key_field(reading.input, entity)
        yield f'get = {{ query = "{reading.procedure}", input = "{{\'{key}\': key}}" }}   # CHECK'
    else:
        yield '# get = { query = "…", input = "{\'id\': key}" }   # CHECK: no query was seen that reads one'


def _items(output: Shape) -> str | None:
    """Return the field that holds the items: "" if the answer is the list itself, None if there is none."""
    if output.is_a("list"):
        return ""
    lists = [name for name, shape in output.fields.items() if shape.is_a("list") and _usable(name)]
    return lists[0] if lists else None


def _tap(observed: Observed) -> str:
    name = observed.procedure
    return (
        f"# {name} is a subscription. If it changes anything, say what its items mean:\n"
        f'# [tap."{name}"]\n# [[tap."{name}".events]]\n# when = "item.type == \'…\'"\n'
    )


class _Guess:
    """What a mutation seems to do, by its name and its shapes."""

    def __init__(self, observed: Observed) -> None:
        self.observed = observed
        router, _, name = observed.procedure.rpartition(".")
        words = [word.lower() for word in _WORDS.findall(name)] or ["done"]
        verb, rest = words[0], words[1:]
        self.known = verb in _EFFECTS
        self.effect, past = _EFFECTS.get(verb, ("patch", f"{verb}-done"))
        self.key_field = _key_field(observed.input, _snake(router.split(".")[-1]) or "thing")
        self.entity = self._entity(_snake(router.split(".")[-1]), rest)
        said = [word for word in (_one(word) for word in rest) if word not in {self.entity, "config"}]
        self.event = "-".join([self.entity.replace("_", "-"), *said, past])
        self.created = self.effect == "create"
        self.output_key = self._output_key()
        self.data_fields = [name for name in observed.input.fields if _usable(name) and name != self.key_field]
        self.fields = [name for name in self.data_fields if name != "success"]

    def _output_key(self) -> str | None:
        """The server makes the key of what it creates; an answer that was never seen is taken to hold an `id`."""
        if not self.created:
            return None
        return _key_field(self.observed.output, self.entity) if self.observed.output.seen else "id"

    def _entity(self, router: str, rest: list[str]) -> str:
        """A router called `config` holds other things; `removeProvider` and a `providerId` tell which."""
        if router in {"config", "settings", "admin", "app", ""}:
            if self.key_field and self.key_field.lower().endswith("id") and len(self.key_field) > 2:
                return _snake(self.key_field[:-2])
            return _snake(rest[0]) if rest else router or "thing"
        return _one(router)

    def written(self) -> str:
        """Return the rule's text."""
        observed = self.observed
        lines = [f'[mutation."{observed.procedure}"]' + self._remark()]
        if observed.output.always("success") and observed.output.fields["success"].is_a("flag"):
            lines.append('success = "output.success"')
        lines += [f'entity = "{self.entity}"', f'key = "{self._key()}"' + ("" if self._sure() else "   # CHECK")]
        lines += [f'effect = "{self.effect}"', f'event = "{self.event}"', f"channel = \"'{self.entity}:' + key\""]
        lines.append(f'data = "{self._data()}"')
        if self.output_key is not None:
            lines.append('set = "output"')
        secret = list(_secrets(observed.input)) + list(_secrets(observed.output))
        if secret:
            lines.append(f"secret = [{_quoted(dict.fromkeys(secret))}]")
        return "\n".join(lines) + "\n"

    def _remark(self) -> str:
        return "" if self.known else "   # CHECK: its name does not say what it does"

    def _sure(self) -> bool:
        return self.key_field is not None if self.output_key is None else bool(self.observed.output.seen)

    def _key(self) -> str:
        if self.output_key is not None:
            return f"output.{self.output_key}"
        return f"string(input.{self.key_field})" if self._numeric_key() else self._plain_key()

    def _plain_key(self) -> str:
        return f"input.{self.key_field}" if self.key_field else "'only'"

    def _numeric_key(self) -> bool:
        return self.key_field is not None and self.observed.input.fields[self.key_field].is_a("number")

    def _data(self) -> str:
        entries = [f"'{self.entity}Id': key"]
        for name in self.data_fields:
            sure = self.observed.input.always(name)
            entries.append(f"'{name}': input.{name}" if sure else f"?'{name}': input.?{name}")
        return "{" + ", ".join(entries) + "}"


def _secrets(shape: Shape, path: tuple[str, ...] = ()) -> Iterator[str]:
    for name, below in shape.fields.items():
        if _usable(name):
            if _SECRET.search(name) and not below.fields and not (below.items and below.items.fields):
                yield ".".join([*path, name])
            yield from _secrets(below, (*path, name))
    if shape.items is not None:
        yield from _secrets(shape.items, (*path, "*"))


def _key_field(shape: Shape, entity: str) -> str | None:
    """Return the field that seems to name the entity."""
    camel = re.sub(r"_(\w)", lambda match: match[1].upper(), entity)
    for name in (f"{camel}Id", f"{entity}_id", "id"):
        if name in shape.fields:
            return name
    return next((name for name in shape.fields if name.endswith("Id") and _usable(name)), None)


def _usable(name: str) -> bool:
    """Tell whether a name reads as a field: anything else may be a value used as a key."""
    return _PLAIN.fullmatch(name) is not None and name not in _RESERVED


def _snake(name: str) -> str:
    return "_".join(word.lower() for word in _WORDS.findall(name))


def _singular(procedure: str) -> str:
    return _one(_snake(procedure.split(".", maxsplit=1)[0]))


def _one(word: str) -> str:
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
