"""The contract of the model's legacy: notes, in every way in which a call can change something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from proxy.judging import Call
from shadow.contract import Contract, Entity, parse
from shadow.json import Json
from shadow.privacy import Privacy

CONTRACT: Final[Contract] = parse(
    """
[legacy]
base_path = "/trpc"
max_request = "30s"

[phase.notes]
entities = ["note"]

[entity.note]
list = { query = "note.list", input = "{}", items = "output" }
get = { query = "note.get", input = "{'id': key}" }
key = "item.id"
fields = ["text", "mark"]

[mutation."note.create"]
entity = "note"
key = "output.id"
effect = "create"
event = "note-created"
channel = "'note:' + output.id"
data = "{'id': output.id, 'text': input.text}"
success = "output.ok"

[mutation."note.draft"]                       # what it makes only the answer tells
entity = "note"
key = "output.id"
effect = "create"
event = "note-drafted"
channel = "'note:' + output.id"
data = "{'id': output.id, 'text': output.text}"

[mutation."note.patch"]
entity = "note"
key = "input.id"
effect = "patch"
event = "note-patched"
channel = "'note:' + key"
data = "input.change"

[mutation."note.put"]                         # one call, one of two events, by what was there before
entity = "note"
key = "input.id"
channel = "'note:' + key"
events = [
  { when = "state == null", event = "note-added", effect = "create", data = "{'text': input.text}" },
  { when = "state != null", event = "note-replaced", effect = "put", data = "{'text': input.text}" },
]

[mutation."note.delete"]
entity = "note"
key = "input.id"
effect = "delete"
event = "note-deleted"
channel = "'note:' + key"
data = "{}"
""",
    "notes.toml",
)

NOTE: Final[Entity] = CONTRACT.entities["note"]
PHASE: Final = "notes"
PRIVACY: Final = Privacy(CONTRACT, None)
MAX_REQUEST: Final = round(CONTRACT.legacy.max_request * 1000)
UNTITLED: Final = "untitled"
"""What the legacy writes into a draft; no client writes it."""


def calls_of(asked: Sequence[tuple[str, Json]]) -> tuple[Call, ...]:
    """Return the calls of one request: procedures with their inputs."""
    return tuple(
        Call(index, procedure, given, CONTRACT.mutations[procedure]) for index, (procedure, given) in enumerate(asked)
    )
