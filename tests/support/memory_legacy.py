"""A legacy that answers from memory, in this process: for tests that need thousands of reads or exact timing.

It lists newest first by a `updated <` cursor, as the example legacy does, with the same flaw at page edges.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import httpx

from shadow import json
from shadow.json import Json

Items = dict[str, dict[str, Json]]


@dataclass(slots=True)
class MemoryLegacy:
    """Entities called `note`, each with `id` and `updated`; queries `note.list`, `note.get` and `note.all`."""

    notes: Items = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    """Answers to give before answering at all, as in [429, 503]."""
    retry_after: str | None = None
    meanwhile: Callable[[str], Awaitable[None]] | None = None
    """Called with the procedure after each query was answered inside, before the answer is sent."""
    largest_page: int = 0

    def put(self, key: str, updated: int = 0, **fields: Json) -> None:
        """Write a note, as if through a mutation."""
        self.notes[key] = {"id": key, "updated": updated, **fields}

    def client(self) -> httpx.AsyncClient:
        """Return a client that reaches this legacy without a socket, at any address."""
        return httpx.AsyncClient(transport=httpx.MockTransport(self._answer))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        procedure = request.url.path.rpartition("/")[2]
        self.requests.append(procedure)
        if self.statuses:
            return httpx.Response(self.statuses.pop(0), headers={"retry-after": self.retry_after or "0"})
        if request.method == "POST":
            self._mutate(procedure, json.decode(request.content))
            return httpx.Response(200, content=b'{"result":{}}')
        sent = parse_qs(request.url.query.decode()).get("input", ["null"])[0]
        output = self._query(procedure, json.decode(sent))
        if self.meanwhile is not None:
            await self.meanwhile(procedure)
        if output is None and procedure != "note.get":
            body = {
                "error": {
                    "message": f'No procedure found on path "{procedure}"',
                    "code": -32004,
                    "data": {"code": "NOT_FOUND"},
                }
            }
            return httpx.Response(404, content=json.encode(body))
        return httpx.Response(200, content=json.encode({"result": {"data": output}}))

    def _mutate(self, procedure: str, wanted: Json) -> None:
        match procedure:
            case "note.delete":
                self.notes.pop(wanted["id"], None)
            case "note.rename":
                self.notes[wanted["id"]]["title"] = wanted["title"]
            case "note.tag":
                self.notes[wanted["id"]]["tags"] = wanted["tags"]

    def _query(self, procedure: str, wanted: Json) -> Json:
        match procedure:
            case "note.list":
                return self._page(wanted.get("limit", 10), wanted.get("cursor"))
            case "note.get":
                found = self.notes.get(wanted["id"])
                return None if found is None else dict(found)
            case "note.all":
                return {"notes": dict(self.notes)}
        return None

    def _page(self, limit: int, cursor: int | None) -> Json:
        older = [note for note in self.notes.values() if cursor is None or note["updated"] < cursor]
        older.sort(key=lambda note: note["updated"], reverse=True)
        page = [dict(note) for note in older[:limit]]
        self.largest_page = max(self.largest_page, len(page))
        return {"notes": page, "nextCursor": page[-1]["updated"] if len(older) > limit else None}


CONTRACT = """
[legacy]
base_path = "/trpc"

[phase.notes]
entities = ["note"]

[entity.note]
list = { query = "note.list", input = "{'limit': 10}", items = "output.notes", cursor = "output.nextCursor" }
get = { query = "note.get", input = "{'id': key}" }
key = "item.id"
fields = ["title", "tags"]

[mutation."note.create"]
entity = "note"
key = "output.id"
effect = "create"
event = "note-created"
channel = "'note:' + output.id"
data = "output"

[mutation."note.rename"]
entity = "note"
key = "input.id"
effect = "patch"
event = "note-renamed"
channel = "'note:' + input.id"
data = "{'id': input.id, 'title': input.title}"
"""
