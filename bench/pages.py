"""A legacy of many entities that answers from memory, and two ways to read all of it: bare httpx, and the reconciler.

`python -m bench.pages serve COUNT` runs the legacy; `bare PORT` and `reconcile PORT DATABASE CONTRACT` read it and
print how many seconds that took; `fill DATABASE COUNT` makes the log that the reconciler finds equal.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

PAGE = 100

CONTRACT = f"""
[legacy]
base_path = "/trpc"

[phase.notes]
entities = ["note"]

[entity.note]
list = {{ query = "note.list", input = "{{'limit': {PAGE}}}", items = "output.notes", cursor = "output.nextCursor" }}
get = {{ query = "note.get", input = "{{'id': key}}" }}
key = "item.id"
fields = ["title", "provider", "model", "tags"]

[mutation."note.create"]
entity = "note"
key = "output.id"
effect = "create"
event = "note-created"
channel = "'note:' + output.id"
data = "output"
"""


def fields(number: int) -> dict[str, object]:
    """Return what a note holds."""
    return {
        "title": f"The title of note {number}, which is as long as titles are",
        "provider": "openai",
        "model": "gpt-5",
        "tags": ["one", "two", "three"],
    }


def name(number: int) -> str:
    """Return the id of a note; they sort by age."""
    return f"{number:08x}-7b1c-4f4e-9d53-0123456789ab"


class Notes:
    """All notes as text, newest first, each newer than the next by a second."""

    def __init__(self, count: int) -> None:
        self._texts = [self._text(number) for number in range(count - 1, -1, -1)]
        self._ages = [-number * 1000 for number in range(count - 1, -1, -1)]

    def _text(self, number: int) -> str:
        return json.dumps({"id": name(number), "updated": number * 1000, **fields(number)}, separators=(",", ":"))

    def page(self, cursor: int | None) -> str:
        """Return the notes older than the cursor."""
        start = 0 if cursor is None else bisect.bisect_right(self._ages, -cursor)
        end = start + PAGE
        following = str(-self._ages[end - 1]) if end < len(self._ages) else "null"
        return f'{{"result":{{"data":{{"notes":[{",".join(self._texts[start:end])}],"nextCursor":{following}}}}}}}'

    def one(self, key: str) -> str:
        """Return one note."""
        return f'{{"result":{{"data":{self._texts[len(self._texts) - 1 - int(key.partition("-")[0], 16)]}}}}}'


def _answered(notes: Notes, procedure: str, wanted: dict[str, Any]) -> str:
    if procedure.endswith("list"):
        return notes.page(wanted.get("cursor"))
    return notes.one(wanted["id"]) if "id" in wanted else "{}"


async def serve(count: int) -> None:
    """Answer `note.list` and `note.get` until the process is ended; prints the port."""
    notes = Notes(count)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                procedure, _, query = head.split(b" ", 2)[1].decode().partition("?input=")
                body = _answered(notes, procedure, json.loads(unquote(query) or "{}")).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
                )
                writer.write(body)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


async def bare(port: int) -> None:
    """Read every page with httpx, decode it, and do nothing with it."""
    import httpx

    async with httpx.AsyncClient(trust_env=False) as client:
        start = time.perf_counter()
        cursor = None
        seen = 0
        while True:
            wanted = {"limit": PAGE} if cursor is None else {"limit": PAGE, "cursor": cursor}
            target = f"http://127.0.0.1:{port}/trpc/note.list?input={quote(json.dumps(wanted, separators=(',', ':')))}"
            output = json.loads((await client.get(target)).content)["result"]["data"]
            seen += len(output["notes"])
            cursor = output["nextCursor"]
            if cursor is None:
                break
        print(json.dumps({"seconds": time.perf_counter() - start, "entities": seen}))


async def reconcile(port: int, database: str, contract: str) -> None:
    """Compare all of it with the log, as `changeover reconcile` does."""
    from reconcile.run import reconcile as run
    from shadow.contract import load

    meaning = load(Path(contract))
    start = time.perf_counter()
    report = await run(meaning, database, f"http://127.0.0.1:{port}")
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "exit_code": report.exit_code}))


async def fill(database: str, count: int) -> None:
    """Make the log that agrees with the legacy."""
    from shadow.events import Draft, Effect, EntityKey
    from shadow.log import Log

    log = Log.open(database)
    for start in range(0, count, 2_000):
        await log.append(
            [
                Draft(
                    id=f"import-{number:08x}",
                    channel=f"note:{name(number)}",
                    type="note-created",
                    time=1_700_000_000_000 + number,
                    data={},
                    entity=EntityKey("note", name(number)),
                    effect=Effect.CREATE,
                    change=fields(number),
                    cause="import",
                )
                for number in range(start, min(start + 2_000, count))
            ]
        )
    await log.close()


def main() -> None:
    """Do what the arguments say."""
    match sys.argv[1:]:
        case ["serve", count]:
            asyncio.run(serve(int(count)))
        case ["bare", port]:
            asyncio.run(bare(int(port)))
        case ["reconcile", port, database, contract]:
            asyncio.run(reconcile(int(port), database, contract))
        case ["fill", database, count]:
            asyncio.run(fill(database, int(count)))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
