"""Streamed batches: the JSON Lines of v11 and the batch stream of v10.

A decoder reads bytes cut anywhere and says, for each call, what became of it and where the line ends that says so. The
bytes up to `cleared` may go to the client once the outcomes reported so far are durable; what lies beyond may still
hold an outcome that nobody has read.

v11: the first line is an object, call index → *encoded value*; each later line is a chunk `[id, status, value]`. An
encoded value is `[payload, definition…]`: payload is `[v]`, or `[]` for undefined, and a definition `[key, type, id]`
says that at `v[key]` (v itself for null) stands a promise (type 0) or an async iterable (type 1), whose chunks follow
under that id and may again define others. v10: the lines are the members of one object, in order of completion.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from enum import Enum

import msgspec

from proxy.trpc import jsontext
from proxy.trpc.envelopes import CallOutcome, Failure, Success, Unknown, decode_answer, failure, read_envelope
from proxy.trpc.jsontext import MAX_DEPTH, NotJsonError
from proxy.trpc.transformers import NONE, Transformer
from proxy.trpc.values import UNDEFINED, TransformerError, Undefined
from shadow.json import Json


class Decoded(msgspec.Struct, frozen=True):
    """One call's outcome, and where in the stream the line ends that settled it (bytes from the start)."""

    index: int
    outcome: CallOutcome
    end_offset: int


CUT_SHORT = Unknown("the stream ended before this call's outcome")


class StreamKind(Enum):
    """The form of streamed batch that a client asked for; the server may still answer plainly."""

    JSON_LINES = "v11"
    V10 = "v10"


def stream_kind(headers: Iterable[tuple[bytes, bytes]]) -> StreamKind | None:
    """Return the form of stream that a batch request asks for, if any."""
    for name, value in headers:
        name = name.lower()
        if name in {b"trpc-accept", b"accept"}:
            if any(part.partition(b";")[0].strip() == b"application/jsonl" for part in value.lower().split(b",")):
                return StreamKind.JSON_LINES
        elif name == b"trpc-batch-mode" and value.strip().lower() == b"stream":
            return StreamKind.V10
    return None


def stream_decoder(
    kind: StreamKind, count: int, transformer: Transformer = NONE, *, status: int = 200
) -> StreamDecoder:
    """Return the decoder of an answer to a batch of `count` calls that asked for a stream."""
    decoder = JsonLinesDecoder if kind is StreamKind.JSON_LINES else V10StreamDecoder
    return decoder(count, transformer, status=status)


class StreamDecoder(ABC):
    """What both forms share: lines, offsets, and the plain answer that may come instead of a stream.

    A decoder never raises. Every call is reported exactly once, those that nothing was said of by `close`.
    """

    def __init__(self, count: int, transformer: Transformer = NONE, *, status: int = 200) -> None:
        self._count = count
        self._transformer = transformer
        self._status = status
        self._settled: set[int] = set()
        self._unread: list[bytes] = []
        self._plain = False
        self.fed = 0
        """How many bytes were fed."""
        self.broken = False
        """True once the stream went on in a way that cannot be read; calls not settled by then stay unknown."""
        self.cleared = 0
        """Up to this offset every byte has been read."""

    def feed(self, data: bytes) -> list[Decoded]:
        """Take the next bytes of the body; returns the outcomes that they settle, in order of their lines."""
        decoded: list[Decoded] = []
        start = 0
        while not self._plain and (end := data.find(b"\n", start)) >= 0:
            self._unread.append(data[start : end + 1])
            start = end + 1
            decoded += self._take_line(self.fed + start)
        if start < len(data):
            self._unread.append(data[start:])
        self.fed += len(data)
        if self.broken:
            self._unread.clear()
        if self.broken or len(self._settled) == self._count or (not self._plain and self._only_pings()):
            self.cleared = self.fed
        return decoded

    def close(self) -> list[Decoded]:
        """Say that the body has ended; returns an outcome for every call that has none yet."""
        decoded = [] if self._plain else self._take_line(self.fed)
        rest = b"".join(self._unread)
        self._unread.clear()
        if not self._started():
            whole = decode_answer(self._count, self._status, rest, self._transformer)
            decoded = [Decoded(index, outcome, self.fed) for index, outcome in enumerate(whole)]
        else:
            missing = sorted(set(range(self._count)) - self._settled)
            decoded += [Decoded(index, CUT_SHORT, self.fed) for index in missing]
        self._settled = set(range(self._count))
        self.cleared = self.fed
        return decoded

    @property
    def streamed(self) -> bool:
        """True once the answer has shown that it is a stream and not a plain one."""
        return self._started()

    def _only_pings(self) -> bool:
        return all(part.isspace() for part in self._unread)

    def _take_line(self, end_offset: int) -> list[Decoded]:
        line = b"".join(self._unread)
        if self.broken or not line.strip(b" \r\n"):
            self._forget(end_offset)
            return []
        try:
            outcomes = self._read_line(line.strip(b" \r\n"))
        except (NotJsonError, TransformerError, RecursionError):
            # What is no stream from its first line on is a plain answer; a stream that breaks later tells no more.
            self._plain, self.broken = not self._started(), self._started()
            if self._plain:
                return []
            outcomes = []
        self._forget(end_offset)
        fresh = [(index, each) for index, each in outcomes if 0 <= index < self._count and index not in self._settled]
        self._settled.update(index for index, _ in fresh)
        return [Decoded(index, outcome, end_offset) for index, outcome in fresh]

    def _forget(self, end_offset: int) -> None:
        if self._started():  # until then the bytes may turn out to be a plain answer, to be read as a whole
            self._unread.clear()
            self.cleared = end_offset

    @abstractmethod
    def _started(self) -> bool:
        """Tell whether a first line has shown that this is a stream."""

    @abstractmethod
    def _read_line(self, line: bytes) -> list[tuple[int, CallOutcome]]:
        """Read one line; raises NotJsonError or TransformerError for one of another form."""


class V10StreamDecoder(StreamDecoder):
    """Reads the answer to v10's unstable_httpBatchStreamLink."""

    _seen = False

    def _started(self) -> bool:
        return self._seen

    def _read_line(self, line: bytes) -> list[tuple[int, CallOutcome]]:
        if self._seen and line == b"}":
            return []
        member = line[1:]
        try:
            found = jsontext.parse(b"{" + member + b"}")
        except NotJsonError:
            found = jsontext.parse(b"{" + member)  # a server that writes the closing brace on the same line
        if not found or not all(map(_is_index, found)):
            raise NotJsonError("the line holds no call of the batch")
        self._seen = True
        return [(int(key), read_envelope(value, self._status, self._transformer)) for key, value in found.items()]


def _is_index(key: str) -> bool:
    return key.isascii() and key.isdigit() and len(key) < 7


class _Part:
    """A deferred part: what has come of it so far. An iterable collects its items; a promise has at most one."""

    __slots__ = ("call", "ended", "error", "items", "iterable", "returned")

    def __init__(self, call: int, *, iterable: bool) -> None:
        self.call = call
        self.iterable = iterable
        self.items: list[_Node] = []
        self.ended = False
        self.error: Json = None
        self.returned: _Node | None = None


class _Node:
    """A value with the deferred parts that stand in it: in place of it all, or by key."""

    __slots__ = ("parts", "value", "whole")

    def __init__(self, value: Json | Undefined) -> None:
        self.value = value
        self.whole: _Part | None = None
        self.parts: dict[str, _Part] = {}


class JsonLinesDecoder(StreamDecoder):
    """Reads the answer to v11's httpBatchStreamLink.

    A call is settled by the line that carries its error or its `data`, so promises inside the data may be yet to come;
    a generator's call by the line that ends the generator, because until then it is still at work.
    """

    def __init__(self, count: int, transformer: Transformer = NONE, *, status: int = 200) -> None:
        super().__init__(count, transformer, status=status)
        self._heads: dict[int, _Node] | None = None
        self._parts: dict[int, _Part] = {}

    def outcomes(self) -> tuple[CallOutcome, ...]:
        """Return what is known by now of each call, with the parts of its data that came after it was settled.

        A generator's output reads `{"$stream": [items], "end": ["return", value] | ["error", shape]}`.
        """
        heads = self._heads or {}
        judged = (self._judge(heads[index]) if index in heads else None for index in range(self._count))
        return tuple(outcome or CUT_SHORT for outcome in judged)

    def _started(self) -> bool:
        return self._heads is not None

    def _read_line(self, line: bytes) -> list[tuple[int, CallOutcome]]:
        value = self._transformer.plain(jsontext.parse(line))
        touched = self._read_head(value) if self._heads is None else self._read_chunk(value)
        heads = self._heads or {}
        judged = ((call, self._judge(heads[call])) for call in touched if call not in self._settled)
        return [(call, outcome) for call, outcome in judged if outcome is not None]

    def _read_head(self, value: Json) -> Iterable[int]:
        if type(value) is not dict or not value or not all(map(_is_index, value)):
            raise NotJsonError("the first line is no head")
        self._heads = {int(key): self._node(encoded, int(key)) for key, encoded in value.items()}
        return list(self._heads)

    def _read_chunk(self, value: Json) -> Iterable[int]:
        if type(value) is not list or len(value) < 2 or type(value[0]) is not int:
            raise NotJsonError("the line is no chunk")
        part = self._parts.get(value[0])
        if part is None or part.ended:
            return ()
        status, content = value[1], value[2] if len(value) > 2 else None
        if part.iterable and status == 1:
            part.items.append(self._node(content, part.call))
            return ()
        part.ended = True
        if status == 0 and part.iterable:
            part.returned = self._node(content, part.call)
        elif status == 0:
            part.items.append(self._node(content, part.call))
        else:
            part.error = content if type(content) is dict else {}
        return (part.call,)

    def _node(self, encoded: Json, call: int) -> _Node:
        """Read an encoded value, and remember its deferred parts by their ids."""
        if type(encoded) is not list or not encoded or type(encoded[0]) is not list:
            raise NotJsonError("the line holds no encoded value")
        node = _Node(encoded[0][0] if encoded[0] else UNDEFINED)
        for definition in encoded[1:]:
            match definition:
                case [None, int(), int(identity)]:
                    node.whole = self._define(identity, call, definition)
                case [str(key), int(), int(identity)]:
                    node.parts[key] = self._define(identity, call, definition)
                case _:
                    raise NotJsonError("the line holds a definition of another form")
        return node

    def _define(self, identity: int, call: int, definition: list[Json]) -> _Part:
        return self._parts.setdefault(identity, _Part(call, iterable=definition[1] == 1))

    def _judge(self, head: _Node) -> CallOutcome | None:
        """Return the outcome that a call's parts show by now; None while they show none."""
        envelope = _arrived(head)
        if envelope is None or isinstance(envelope, Failure | Unknown):
            return envelope
        if type(envelope.value) is not dict:
            return Unknown("the item is no tRPC envelope")
        if "error" in envelope.value:
            return read_envelope(envelope.value, self._status)
        result = _member(envelope, "result")
        if result is None or isinstance(result, Failure | Unknown):
            return result
        if result.whole is not None or type(result.value) is not dict:
            return Unknown("the item is no tRPC envelope")
        data = _member(result, "data") if "data" in result.value else _Node(UNDEFINED)
        return data if data is None or isinstance(data, Failure | Unknown) else _output(data)


def _arrived(node: _Node) -> _Node | Failure | Unknown | None:
    """Follow the promises that stand for the whole of `node`; None when one is still open."""
    for _ in range(MAX_DEPTH):
        part = node.whole
        if part is None or part.iterable:
            return node
        if not part.ended:
            return None
        if part.error is not None:
            # The resolver had returned before the promise that it returned was rejected.
            return failure(part.error, 200, trusted=False)
        node = part.items[0]
    return Unknown("the value nests too deeply")


def _member(node: _Node, key: str) -> _Node | Failure | Unknown | None:
    if node.whole is not None or type(node.value) is not dict or key not in node.value:
        return Unknown("the item is no tRPC envelope")
    part = node.parts.get(key)
    if part is None:
        return _Node(node.value[key])
    member = _Node(UNDEFINED)
    member.whole = part
    return _arrived(member)


def _output(data: _Node) -> Success | None:
    """Return the success that `data` carries; None while it is a generator at work."""
    if data.whole is not None and not data.whole.ended:
        return None
    return Success(_assembled(data, 0), data.whole is not None and data.whole.error is not None)


def _assembled(node: _Node, depth: int) -> Json | Undefined:
    if depth > MAX_DEPTH:
        return UNDEFINED
    if node.whole is not None:
        return _part_so_far(node.whole, depth)
    if not node.parts or type(node.value) is not dict:
        return node.value
    value = dict(node.value)
    for key, part in node.parts.items():
        value[key] = _part_so_far(part, depth)
    return {key: member for key, member in value.items() if member is not UNDEFINED}


def _part_so_far(part: _Part, depth: int) -> Json | Undefined:
    items = [_assembled(item, depth + 1) for item in part.items]
    if not part.iterable:
        return items[0] if items else UNDEFINED
    stream: dict[str, Json] = {"$stream": [None if item is UNDEFINED else item for item in items]}
    if part.error is not None:
        stream["end"] = ["error", part.error]
    elif part.returned is not None:
        returned = _assembled(part.returned, depth + 1)
        stream["end"] = ["return", None if returned is UNDEFINED else returned]
    return stream
