"""Where `changeover contract draft` finds calls to learn their shapes from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from changeover.database import reading
from changeover.errors import UserError
from shadow import json
from shadow.contract.drafting import CallKind, Observed
from shadow.secrets import mask

_PAGE = 1000


class _Call(msgspec.Struct, forbid_unknown_fields=True):
    procedure: str
    kind: CallKind
    input: msgspec.Raw = msgspec.Raw(b"null")
    output: msgspec.Raw = msgspec.Raw(b"")


def from_journal(database: str) -> list[Observed]:
    """Return the mutations that the journal holds; their answers are not known."""
    seen: dict[str, Observed] = {}
    with reading(database) as log:
        after = 0
        while page := log.intents(after=after, limit=_PAGE):
            after = page[-1].id
            for intent in page:
                observed = seen.setdefault(intent.procedure, Observed(intent.procedure, "mutation"))
                observed.input.add(mask(intent.input))
    return list(seen.values())


def from_file(path: Path) -> list[Observed]:
    """Return the calls in a file of JSON lines; raises UserError with the line that is wrong."""
    seen: dict[str, Observed] = {}
    for call in _calls(path):
        observed = seen.setdefault(call.procedure, Observed(call.procedure, call.kind))
        observed.input.add(json.decode(bytes(call.input)))
        if bytes(call.output):
            observed.output.add(json.decode(bytes(call.output)))
    return list(seen.values())


def _calls(path: Path) -> Iterator[_Call]:
    decoder = msgspec.json.Decoder(_Call)
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield decoder.decode(line)
                except msgspec.DecodeError as error:
                    expected = 'write {"procedure": "a.b", "kind": "mutation", "input": …, "output": …} on each line'
                    raise UserError(f"{path}:{number}: {error}; {expected}") from None
