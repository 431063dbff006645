"""Where one HTTP/1.1 message ends and which headers go on: decided once, purely, for both directions.

A proxy that reads a message's end elsewhere than its neighbour lets one client put words into another's mouth
(request smuggling). So whatever two careful readers could read differently is refused, not repaired; the few
repairs made are those that nginx and Node's own client make too. Header pairs are bytes in the sender's order
and letter case; they stay so.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Container, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

Pairs: TypeAlias = list[tuple[bytes, bytes]]
"""Header fields as (name, value), repeated ones repeated, in order, in the sender's letter case."""

VIA_NAME = b"changeover"
MOST_HOPS = 8
"""A request that carries our name in `Via` this often is going round in a circle."""

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    }
)

# Naming one of these in `Connection:` would make the proxy drop what the next server frames, routes or trusts by.
_NEVER_NAMED = frozenset({b"host", b"content-length", b"content-type", b"authorization", b"cookie"})
_NEVER_TRAILERS = HOP_BY_HOP | {b"host", b"content-length", b"content-type", b"content-encoding", b"trailer", b"cookie"}
_FORWARDED = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"})
_REQUEST_NOTED = HOP_BY_HOP | _FORWARDED | {b"host", b"content-length", b"expect", b"via"}
_KEPT = frozenset({b"host", b"content-length"})
_DROPPED = HOP_BY_HOP | {b"expect"}
_TOLD_BEFORE = _FORWARDED | {b"via"}
_NONE: list[bytes] = []
_ANSWER_NOTED = HOP_BY_HOP | {b"content-length"}
_ANSWER_NOTED_LENGTHS = frozenset(map(len, _ANSWER_NOTED))
_HARMLESS_CONNECTION = frozenset({b"keep-alive", b"close", b"upgrade"})
_TIMEOUT = re.compile(rb"(?:^|[\s,])timeout\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def header(headers: Pairs, wanted: bytes) -> bytes:
    """Return the value of the first header called `wanted` (in lower case), or nothing."""
    for name, value in headers:
        if len(name) == len(wanted) and name.lower() == wanted:
            return value
    return b""


def headers_named(headers: Iterable[tuple[bytes, bytes]], names: Container[bytes]) -> dict[bytes, bytes]:
    """Return the first value of each header called one of `names`; all of them in lower case, as in an ASGI scope."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in names and name not in found:
            found[name] = value
    return found


class Refused(Exception):
    """A request that is not forwarded, because it could be read in two ways; nothing of it went anywhere.

    `status` is what to answer; the message is a sentence for whoever sent it.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class BadAnswer(Exception):
    """An answer whose end cannot be known for certain."""


class RequestHead(NamedTuple):
    """A request line and the headers that go on, framing left to the connection but for a declared length.

    `target` is what stands between method and version, untouched. A `Content-Length` in `headers` is repeated
    in `content_length`; without one the body's own kind decides how it is framed.
    """

    method: bytes
    target: bytes
    headers: Pairs
    content_length: int | None = None

    @property
    def safe(self) -> bool:
        """Whether sending this twice does no more than sending it once (RFC 9110, 9.2.1)."""
        return self.method in _SAFE


_SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS"})


class Sender(NamedTuple):
    """Who sent a request to the proxy: the facts that `X-Forwarded-*` tell.

    A trusted sender (a load balancer in front) may say where the request came from first; what an untrusted
    one says of that is dropped. A Unix socket has no address.
    """

    address: bytes | None
    scheme: bytes
    trusted: bool


# --- requests -------------------------------------------------------------------------------------------------


def request_head(
    method: bytes,
    target: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    sender: Sender | None,
    *,
    version: bytes = b"1.1",
) -> RequestHead:
    """Turn a client's head into the one that goes to the legacy; raises `Refused`.

    Hop-by-hop fields go (also those that `Connection` names); `X-Forwarded-*`, a present `Forwarded`, and `Via`
    are carried on unless `sender` is None; everything else stays as and where it was.
    """
    kept: Pairs = []
    noted: dict[bytes, list[bytes]] = {}
    for pair in headers:
        name = pair[0].lower()
        if name in _REQUEST_NOTED:
            noted.setdefault(name, []).append(pair[1])
            if name not in _KEPT and (sender is not None or name in _DROPPED):
                continue
        kept.append(pair)
    hosts = noted.pop(b"host", _NONE)
    if len(hosts) != 1 and (hosts or version == b"1.1"):
        raise Refused(400, "a request needs exactly one Host header")
    length = None
    if noted:
        length = _request_length(noted, version)
        kept = _request_extras(kept, noted)
    if sender is not None:
        host = hosts[0] if hosts else None
        if noted and not noted.keys().isdisjoint(_TOLD_BEFORE):
            _carry_on(kept, noted, sender, host, version)
        else:
            kept += _first_told(sender, host, version)
    return RequestHead(method, target, kept, length)


def _request_extras(kept: Pairs, noted: dict[bytes, list[bytes]]) -> Pairs:
    if b"connection" in noted:
        kept = _without_named(kept, noted[b"connection"])
    if b"expect" in noted and [value.lower() for value in noted[b"expect"]] != [b"100-continue"]:
        raise Refused(417, "the only expectation that can be met is 100-continue")
    if b"te" in noted and any(b"trailers" in value.lower() for value in noted[b"te"]):
        kept.append((b"TE", b"trailers"))
    return kept


def _without_named(kept: Pairs, connection: list[bytes]) -> Pairs:
    named: frozenset[bytes] = frozenset().union(*map(connection_names, connection))
    if named & _NEVER_NAMED:
        raise Refused(400, "the Connection header names a field that every server on the way needs")
    return [pair for pair in kept if pair[0].lower() not in named] if named else kept


def _request_length(noted: dict[bytes, list[bytes]], version: bytes) -> int | None:
    lengths = noted.get(b"content-length")
    encodings = noted.get(b"transfer-encoding")
    if encodings is not None:
        if lengths is not None:
            raise Refused(400, "Content-Length and Transfer-Encoding exclude each other")
        if version != b"1.1":
            raise Refused(400, "Transfer-Encoding needs HTTP/1.1")
        if len(encodings) != 1 or encodings[0].strip(b" \t").lower() != b"chunked":
            raise Refused(501, "the only transfer coding that can be read is one `chunked`")
    if lengths is None:
        return None
    if len(lengths) != 1 or (length := parse_length(lengths[0])) is None:
        raise Refused(400, "Content-Length must be there once, and a number")
    return length


@lru_cache(maxsize=4096)
def _first_told(sender: Sender, host: bytes | None, version: bytes) -> Pairs:
    """What is told of a request of which nobody told anything before."""
    pairs: Pairs = []
    _carry_on(pairs, {}, sender, host, version)
    return pairs


def _carry_on(kept: Pairs, noted: dict[bytes, list[bytes]], sender: Sender, host: bytes | None, version: bytes) -> None:
    told = noted if sender.trusted else {}
    address = sender.address
    if address is not None:
        kept.append((b"X-Forwarded-For", b", ".join([*told.get(b"x-forwarded-for", ()), address])))
    kept.append((b"X-Forwarded-Proto", b", ".join(told.get(b"x-forwarded-proto", ())) or sender.scheme))
    if host is not None:
        kept.append((b"X-Forwarded-Host", b", ".join(told.get(b"x-forwarded-host", ())) or host))
    if b"forwarded" in told:
        kept.append((b"Forwarded", b", ".join([*told[b"forwarded"], _forwarded_element(sender, host)])))
    via = noted.get(b"via", [])
    if via and b",".join(via).lower().count(b" " + VIA_NAME) >= MOST_HOPS:
        raise Refused(508, "this request has gone round in a circle: does the proxy's legacy URL point at the proxy?")
    kept.append((b"Via", b", ".join([*via, version + b" " + VIA_NAME])))


def _forwarded_element(sender: Sender, host: bytes | None) -> bytes:
    address = sender.address or b"unknown"
    if b":" in address:
        address = b'"[' + address + b']"'
    element = b"for=" + address + b";proto=" + sender.scheme
    if host is not None:
        element += b';host="' + host.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return element


@lru_cache(maxsize=256)
def connection_names(value: bytes) -> frozenset[bytes]:
    """Return the header names that one `Connection` value asks to drop, in lower case."""
    tokens = {token.strip(b" \t").lower() for token in value.split(b",")}
    return frozenset(tokens - _HARMLESS_CONNECTION - {b""})


def origin_target(target: bytes, host: bytes | None) -> bytes:
    """Return the origin form of a request target; raises `Refused` for what two servers could route differently."""
    if target.startswith(b"/") or target == b"*":
        if b"#" in target:
            raise Refused(400, "a request target has no fragment")
        return target
    scheme, found, rest = target.partition(b"://")
    if not found or scheme.lower() not in (b"http", b"https"):
        raise Refused(400, "the request target must be a path, as in /trpc/session.list")
    cut = min((at for mark in (b"/", b"?", b"#") if (at := rest.find(mark)) >= 0), default=len(rest))
    if host is not None and rest[:cut].lower() != host.strip().lower():
        raise Refused(400, "the request target and the Host header name two hosts")
    path = rest[cut:]
    return origin_target(path if path.startswith(b"/") else b"/" + path, host)


@lru_cache(maxsize=4096)
def is_trusted(address: str | None, networks: tuple[str, ...]) -> bool:
    """Tell whether an address is in one of the networks; no address means a Unix socket, which is trusted."""
    if address is None:
        return True
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in ipaddress.ip_network(network) for network in networks)


# --- answers --------------------------------------------------------------------------------------------------

CHUNKED = -1
UNTIL_CLOSE = -2


class AnswerHead(NamedTuple):
    """What an answer's headers say: how long its body is, and what the connection is good for afterwards.

    `length` is a number of bytes, CHUNKED or UNTIL_CLOSE. `headers` are those that go on. `idle_limit` is what
    the server says of how long it keeps an idle connection, in seconds, or None when it says nothing.
    """

    length: int
    headers: Pairs
    keep_alive: bool
    idle_limit: float | None


def answer_head(method: bytes, status: int, headers: Pairs, *, keep_alive: bool) -> AnswerHead:
    """Read a legacy's answer head; `keep_alive` is what its HTTP version says when `Connection` is silent.

    `Transfer-Encoding: chunked` said twice is one chunked body (a Bun server does that; nginx and Node read it
    so). Every other doubt raises `BadAnswer`.
    """
    kept: Pairs = []
    noted: dict[bytes, bytes] = {}
    for pair in headers:
        # Most names are known by their length alone to be none of ours; this runs for every header of every answer.
        if len(pair[0]) in _ANSWER_NOTED_LENGTHS and (name := pair[0].lower()) in _ANSWER_NOTED:
            # A repeated field is one list (RFC 9110, 5.2); a list of lengths is refused below.
            noted[name] = noted[name] + b"," + pair[1] if name in noted else pair[1]
            if name != b"content-length":
                continue
        kept.append(pair)
    declared: int | None = None
    idle_limit: float | None = None
    chunked = False
    if b"content-length" in noted:
        declared = _answer_length(noted[b"content-length"])
    if b"transfer-encoding" in noted:
        chunked = _is_chunked(noted[b"transfer-encoding"], declared)
    if b"connection" in noted:
        keep_alive, named = _connection_says(noted[b"connection"], keep_alive)
        kept = [pair for pair in kept if pair[0].lower() not in named] if named else kept
    if b"keep-alive" in noted:
        idle_limit = idle_hint(noted[b"keep-alive"])
    if has_no_body(method, status):
        return AnswerHead(0, kept, keep_alive, idle_limit)
    if declared is not None:
        return AnswerHead(declared, kept, keep_alive, idle_limit)
    return AnswerHead(CHUNKED if chunked else UNTIL_CLOSE, kept, keep_alive and chunked, idle_limit)


def _answer_length(value: bytes) -> int:
    length = parse_length(value)
    if length is None:
        raise BadAnswer("its Content-Length is not one number")
    return length


def _is_chunked(value: bytes, declared: int | None) -> bool:
    if any(coding.strip(b" \t").lower() != b"chunked" for coding in value.split(b",")):
        raise BadAnswer("it has a transfer coding other than chunked")
    if declared is not None:
        raise BadAnswer("it has both Content-Length and Transfer-Encoding")
    return True


@lru_cache(maxsize=256)
def _connection_says(value: bytes, keep_alive: bool) -> tuple[bool, frozenset[bytes]]:
    tokens = {token.strip(b" \t").lower() for token in value.split(b",")}
    if b"close" in tokens:
        keep_alive = False
    elif b"keep-alive" in tokens:
        keep_alive = True
    return keep_alive, frozenset(tokens - _HARMLESS_CONNECTION - _NEVER_NAMED - {b""})


@lru_cache(maxsize=64)
def idle_hint(value: bytes) -> float | None:
    """Return the seconds that a `Keep-Alive: timeout=5` promises, or None."""
    found = _TIMEOUT.search(value)
    return float(found[1]) if found else None


def has_no_body(method: bytes, status: int) -> bool:
    """Tell whether an answer ends with its head, whatever its headers say (RFC 9112, 6.3)."""
    return method == b"HEAD" or status < 200 or status in (204, 304)


def trailer_fields(pairs: Iterable[tuple[bytes, bytes]]) -> Pairs:
    """Keep the trailers that may go on: none that frames, routes or describes the body."""
    return [pair for pair in pairs if pair[0].lower() not in _NEVER_TRAILERS]


def parse_length(value: bytes) -> int | None:
    """Read a Content-Length: ASCII digits only, no sign, no list."""
    value = value.strip(b" \t")
    return int(value) if value.isdigit() and len(value) <= 18 else None
