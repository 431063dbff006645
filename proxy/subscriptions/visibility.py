"""Who may see what, by the contract's rules for channels.

A channel is open, or asks for the subscribers' token, or is seen by whoever the legacy gives an answer to a query that
the contract names, made with the subscriber's own credentials. What the legacy said is remembered for a short while;
when it cannot be asked, what it said last counts on for a longer one. Credentials are kept for as long as their
connection lives and as a digest for as long as an answer is remembered; they are never logged.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

import structlog

from proxy.framing import HOP_BY_HOP, Pairs, RequestHead
from proxy.subscriptions.feed import Unavailable
from proxy.trpc.envelopes import Failure, Success, decode_answer
from proxy.trpc.transformers import Transformer
from proxy.trpc.values import UNDEFINED
from proxy.upstream import Upstream, UpstreamError
from shadow import json
from shadow.contract import Ask, Contract, ExpressionError, Open, Token
from shadow.events import Draft, Effect, matches
from shadow.json import Json

logger = structlog.get_logger(__name__)

REMEMBERED = 30.0
"""Seconds for which an answer of the legacy counts."""

OUTLIVED = 600.0
"""Seconds for which it counts while the legacy cannot be asked."""

MOST_REMEMBERED = 50_000
MOST_RULES = 4096
"""Channels of which it is remembered what the legacy is asked about them."""
MOST_ASKED = 8
"""Questions to the legacy at once."""

PATIENCE = 10.0
"""Seconds that the legacy has for an answer."""

_OF_THE_CONNECTION = HOP_BY_HOP | {
    b"accept",
    b"accept-encoding",
    b"cache-control",
    b"content-length",
    b"content-type",
    b"last-event-id",
    b"pragma",
    b"host",
    # A subscriber is not believed where it says it comes from.
    b"forwarded",
    b"via",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-proto",
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who subscribes: the headers that go along when the legacy is asked, and tRPC's connection parameters."""

    headers: tuple[tuple[bytes, bytes], ...] = ()
    host: bytes = b"legacy"
    token: str | None = None
    connection_params: str | None = None

    def __repr__(self) -> str:
        return "Credentials(…)"

    @classmethod
    def of(cls, headers: Sequence[tuple[bytes, bytes]], params: Json = None, token: str | None = None) -> Credentials:
        """Take the credentials from a request's headers, its connection parameters, or a token of its own."""
        kept = tuple(
            (name, value)
            for name, value in headers
            if name.lower() not in _OF_THE_CONNECTION and not name.lower().startswith(b"sec-websocket-")
        )
        host = next((value for name, value in headers if name.lower() == b"host"), b"legacy")
        bearer = next((value for name, value in headers if name.lower() == b"authorization"), b"").decode("latin-1")
        scheme, _, given = bearer.partition(" ")
        if token is None and scheme.lower() == "bearer":
            token = given.strip()
        if token is None and isinstance(params, dict):
            token = next((value for key in ("token", "authorization") if isinstance(value := params.get(key), str)), "")
            token = token.removeprefix("Bearer ") or None
        text = None if params is None else json.encode(params).decode()
        return cls(kept, host, token, text)

    def digest(self) -> bytes:
        """Return what tells these credentials from others."""
        shown = [(name.lower(), value) for name, value in self.headers if name.lower() not in _SAYS_NOTHING]
        return hashlib.sha256(repr((sorted(shown), self.connection_params)).encode()).digest()


_SAYS_NOTHING = frozenset(
    {
        b"accept-language",
        b"dnt",
        b"origin",
        b"priority",
        b"referer",
        b"traceparent",
        b"tracestate",
        b"user-agent",
        b"x-request-id",
        b"sec-fetch-dest",
        b"sec-fetch-mode",
        b"sec-fetch-site",
    }
)


@dataclass(slots=True)
class _Verdict:
    allowed: bool
    at: float
    ever: bool

    def shows(self, draft: Draft) -> bool:
        """Tell whether it shows an event of its channel.

        The legacy cannot say whose an entity was that is gone. So the event of its end is seen by whoever was
        allowed to see its channel before.
        """
        return self.allowed or (self.ever and draft.effect is Effect.DELETE)


@dataclass(frozen=True, slots=True)
class _Question:
    """What the legacy is asked about a channel; equal keys mean the same question."""

    rule: Ask
    given: Json
    key: bytes


@dataclass(slots=True, eq=False)
class Visibility:
    """The rules of one contract, and what the legacy said about whom."""

    contract: Contract
    upstream: Upstream
    transformer: Transformer
    token: str | None
    now: Callable[[], float]
    """Seconds of a clock that never goes back."""
    _verdicts: OrderedDict[tuple[bytes, bytes], _Verdict] = field(default_factory=OrderedDict)
    _rules: dict[str, Open | Token | _Question] = field(default_factory=dict)
    """Who may see which channel, for those that were spoken of last."""
    _asking: dict[tuple[bytes, bytes], asyncio.Lock] = field(default_factory=dict)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_ASKED))

    def sight(self, credentials: Credentials) -> SubscriberSight:
        """Return what a subscriber with these credentials may see."""
        return SubscriberSight(self, credentials)

    def knows(self, given: str | None) -> bool:
        """Tell whether `given` is the subscribers' token."""
        return bool(self.token and given) and hmac.compare_digest(str(given).encode(), str(self.token).encode())

    @property
    def all_open(self) -> bool:
        """Whether every channel is open to everybody."""
        return all(isinstance(channel.see, Open) for channel in self.contract.channels)

    def rule(self, channel: str) -> Open | Token | _Question:
        """Return who may see a channel."""
        found = self._rules.get(channel)
        if found is None:
            if len(self._rules) >= MOST_RULES:
                self._rules.clear()
            found = self._rules[channel] = self._rule(channel)
        return found

    def _rule(self, channel: str) -> Open | Token | _Question:
        rules = self.contract.channel_rules(channel)
        if rules is None:
            return Open()
        rule = rules.see
        if not isinstance(rule, Ask):
            return rule
        given = rule.input_for(channel, rules.suffix(channel))
        return _Question(rule, given, rule.query.encode() + b"\0" + json.encode(given) + b"\0" + rule.where.encode())

    async def ask(self, question: _Question, credentials: Credentials, digest: bytes) -> _Verdict:
        """Return what the legacy says; raises `Unavailable` when it cannot say and has not said lately."""
        key = (digest, question.key)
        known = self.answered(key)
        if known is not None:
            return known
        lock = self._asking.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                known = self.answered(key)
                if known is None:
                    async with self._turns:
                        known = await self._decide(key, question, credentials)
                return known
        finally:
            if not lock.locked():
                self._asking.pop(key, None)

    def answered(self, key: tuple[bytes, bytes]) -> _Verdict | None:
        """Return what the legacy said about whom, and about which question, if it still counts."""
        known = self._verdicts.get(key)
        if known is None or self.now() - known.at > REMEMBERED:
            return None
        self._verdicts.move_to_end(key)
        return known

    async def _decide(self, key: tuple[bytes, bytes], question: _Question, credentials: Credentials) -> _Verdict:
        before = self._verdicts.get(key)
        allowed = await self._asked(question.rule, question.given, credentials)
        if allowed is None:
            if before is not None and self.now() - before.at <= OUTLIVED:
                return before
            raise Unavailable(f"the API cannot be asked by {question.rule.query} who may see this; try again shortly")
        verdict = _Verdict(allowed, self.now(), allowed or (before is not None and before.ever))
        self._verdicts[key] = verdict
        self._verdicts.move_to_end(key)
        while len(self._verdicts) > MOST_REMEMBERED:
            self._verdicts.popitem(last=False)
        return verdict

    async def _asked(self, rule: Ask, given: Json, credentials: Credentials) -> bool | None:
        """Make the query; None when there is no telling."""
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self.upstream.request(self._head(rule, given, credentials), b"")
                body = await answer.read()
        except (UpstreamError, TimeoutError):
            return None
        (outcome,) = decode_answer(1, answer.status, body, self.transformer)
        match outcome:
            case Success(data):
                try:
                    return rule.allowed(None if data is UNDEFINED else data)
                except ExpressionError as error:
                    logger.warning("visibility_undecidable", rule=rule.where, reason=str(error))
                    return False
            case Failure(_, status) if 400 <= status < 500 and status not in (408, 429):
                return False
        return None

    def _head(self, rule: Ask, given: Json, credentials: Credentials) -> RequestHead:
        wire = self.transformer.encode(given)
        query = f"input={quote(json.encode(wire).decode(), safe='')}"
        if credentials.connection_params is not None:
            query += f"&connectionParams={quote(credentials.connection_params, safe='')}"
        target = f"{self.contract.legacy.base_path}/{rule.query}?{query}".encode()
        headers: Pairs = [(b"Host", credentials.host), *credentials.headers, (b"Accept", b"application/json")]
        return RequestHead(b"GET", target, headers)


class SubscriberSight:
    """What one subscriber may see."""

    __slots__ = ("_credentials", "_digest", "_has_token", "_last", "_visibility", "everything")

    def __init__(self, visibility: Visibility, credentials: Credentials) -> None:
        self._visibility = visibility
        self._credentials = credentials
        self._digest: bytes | None = None
        self._has_token = visibility.knows(credentials.token)
        self.everything = visibility.all_open
        self._last: tuple[str, _Verdict, float] = "", _HIDDEN, -math.inf
        """The channel that was asked for last, what was known of it, and until when that counts."""

    def known(self, draft: Draft) -> bool | None:
        """Tell the same as `sees` without asking the legacy; None when it has to be asked."""
        channel, verdict, until = self._last
        if channel != draft.channel or self._visibility.now() > until:
            rule = self._visibility.rule(draft.channel)
            found = self._known(rule)
            if found is None:
                return None
            verdict = found
            self._last = draft.channel, found, found.at + REMEMBERED if isinstance(rule, _Question) else math.inf
        return verdict.allowed or verdict.shows(draft)

    async def sees(self, draft: Draft) -> bool:
        """Tell whether the subscriber may see an event; raises `Unavailable`."""
        return (await self._verdict(draft.channel)).shows(draft)

    async def sees_channel(self, channel: str) -> bool:
        """Tell whether the subscriber may see a channel; raises `Unavailable`."""
        return (await self._verdict(channel)).allowed

    async def refusal(self, patterns: Sequence[str]) -> tuple[str, str] | None:
        """Return tRPC's error code and a sentence if the subscriber may see nothing of one of the patterns."""
        for pattern in patterns:
            if self._needs_token(pattern) and not self._has_token:
                return "UNAUTHORIZED", f"{pattern} is seen with the subscribers' token: send Authorization: Bearer …"
            if not pattern.endswith("*") and not await self.sees_channel(pattern):
                return "FORBIDDEN", f"{pattern} is not shown to you"
        return None

    def _needs_token(self, pattern: str) -> bool:
        """Tell whether every channel of a pattern is under a rule that demands the token."""
        channels = self._visibility.contract.channels
        if not pattern.endswith("*"):
            rules = self._visibility.contract.channel_rules(pattern)
            return rules is not None and isinstance(rules.see, Token)
        stem = pattern[:-1]
        inside = [each for each in channels if each.pattern.startswith(stem)]
        covers = next((each for each in channels if each.pattern.endswith("*") and matches(each.pattern, stem)), None)
        return covers is not None and all(isinstance(each.see, Token) for each in [covers, *inside])

    async def _verdict(self, channel: str) -> _Verdict:
        rule = self._visibility.rule(channel)
        verdict = self._known(rule)
        if verdict is None:
            assert isinstance(rule, _Question)
            verdict = await self._visibility.ask(rule, self._credentials, self._whose())
        return verdict

    def _known(self, rule: Open | Token | _Question) -> _Verdict | None:
        """Return what can be said without asking the legacy."""
        if isinstance(rule, _Question):
            return self._visibility.answered((self._digest or self._whose(), rule.key))
        return _SEEN if isinstance(rule, Open) or self._has_token else _HIDDEN

    def _whose(self) -> bytes:
        if self._digest is None:
            self._digest = self._credentials.digest()
        return self._digest


_SEEN = _Verdict(allowed=True, at=0, ever=True)
_HIDDEN = _Verdict(allowed=False, at=0, ever=False)
