"""The road of WebSocket connections: calls are frames, answered in any order, told apart by the client's ids.

Frames pass unchanged. A client's frame that calls a mutation leaves once its intent is durable, and the frames behind
it wait for it; the legacy's answer leaves once its event is durable, and so do the frames behind it. Only PING and PONG
overtake: they carry no order, and a connection that waits must not look dead. A frame of several calls is one attempt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from proxy.fence import Fence
from proxy.judging import Asked, Call
from proxy.mirror import Attempt, Mirror, Unrecordable
from proxy.roads.lane import Lane
from proxy.taps import Taps
from proxy.trpc import websocket as wire
from proxy.trpc.envelopes import CallOutcome, Success, Unknown
from proxy.trpc.inputs import Malformed
from proxy.trpc.transformers import UNDEFINED, Transformer, Undefined
from proxy.trpc.websocket import Answer, Correlation, Id, KeepAlive, Request, Stop, Stopped
from proxy.websocket import Message, Relay
from shadow.contract import Tap
from shadow.errors import LogUnavailable
from shadow.json import Json
from shadow.tasks import Tasks

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WebSocketRoad:
    """What all connections share. `patience` is how many seconds a mutation may go without an answer."""

    mirror: Mirror
    fence: Fence
    taps: Taps
    transformer: Transformer
    patience: float = 60.0

    def watch(self, relay: Relay, *, asked: Callable[[], Asked]) -> Crossing:
        """Watch one connection; `asked` makes the record of a frame that is received now."""
        return Crossing(self, relay, asked)


@dataclass(eq=False, slots=True)
class Frame:
    """The calls of one client's frame; some of them are mirrored."""

    requests: tuple[Request, ...]
    attempt: Attempt | None = None
    unsettled: set[int] = field(default_factory=set)
    """The mirrored calls that have no outcome yet, by their place in the frame."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the frame may go to the legacy, or may not."""
    refusal: Exception | None = None
    """Why it may not."""
    dropped: bool = False
    """Whether the connection had ended before the frame could go."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when no outcome is waited for any more."""
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the attempt has ended, with all that follows from the outcomes."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while outcomes are written: those of one frame may concern one entity."""
    given_up: bool = False
    """Whether the client was told already that no answer came in time."""

    def settled(self, index: int) -> None:
        """Note that a call has its outcome."""
        self.unsettled.discard(index)
        if not self.unsettled:
            self.over.set()


@dataclass(eq=False, slots=True)
class Tapped:
    """A running subscription whose items are events."""

    tap: Tap
    input: Json
    actor: str | None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Crossing:
    """One connection, watched: implements `proxy.websocket.Watcher`."""

    def __init__(self, road: WebSocketRoad, relay: Relay, asked: Callable[[], Asked]) -> None:
        self._road = road
        self._asked = asked
        self._tasks = Tasks()
        self._to_legacy = Lane(relay.to_legacy, self._tasks, name="websocket_to_legacy")
        self._to_client = Lane(relay.to_client, self._tasks, name="websocket_to_client")
        self._calls = Correlation()
        self._places: dict[int, tuple[Frame, int]] = {}
        """Where a call that waits for its answer stands, by the identity of its request."""
        self._frames: set[Frame] = set()
        self._subscriptions: dict[Id, Tapped | None] = {}
        self._doubtful: set[Id] = set()
        """Ids that stood for several things at once, so that their answers prove nothing."""
        self._closed = False

    # --- from the client ---------------------------------------------------------------------------------------

    async def client_message(self, message: Message) -> Message | None:
        """Let a message go on at once, or take it in and let it go on in its turn."""
        parsed = wire.parse_client_frame(message, self._road.transformer)
        if isinstance(parsed[0] if parsed else None, KeepAlive):
            return message
        if isinstance(message, bytes):
            self._road.mirror.metrics.not_mirrored("binary_frame")
        if any(isinstance(each, Request) and each.type == "mutation" for each in parsed):
            await self._to_legacy.put(self._embark(message, parsed), len(message))
            return None
        if self._to_legacy.idle:
            self._note(parsed)
            return message
        await self._to_legacy.put(self._pass(message, parsed), len(message))
        return None

    async def _pass(self, message: Message, parsed: Sequence[wire.ClientMessage]) -> Message:
        self._note(parsed)
        return message

    async def _embark(self, message: Message, parsed: Sequence[wire.ClientMessage]) -> Message | None:
        """Return the frame once the intents of its mutations are durable; None when they could not be made so."""
        frame = Frame(tuple(each for each in parsed if isinstance(each, Request)))
        self._frames.add(frame)
        self._tasks.spawn(self._see_through(frame), name="websocket_frame")
        await frame.ready.wait()
        if frame.refusal is not None:
            await self._refuse(frame.requests, frame.refusal)
        elif not frame.dropped:
            self._note(parsed, frame)
            return message
        return None

    def _note(self, parsed: Sequence[wire.ClientMessage], frame: Frame | None = None) -> None:
        """Remember what goes to the legacy, so that the answers can be told apart."""
        place = 0
        for each in parsed:
            match each:
                case Request(type="subscription"):
                    self._note_subscription(each)
                    place += 1
                case Request():
                    self._calls.sent(each)
                    if self._calls.ambiguous(each.id) or each.id in self._subscriptions:
                        self._doubtful.add(each.id)
                    if frame is not None and place in frame.unsettled:
                        self._places[id(each)] = (frame, place)
                    place += 1
                case Stop():
                    self._subscriptions.pop(each.id, None)

    def _note_subscription(self, request: Request) -> None:
        if any(each.id == request.id for each in self._calls.unanswered()):
            self._doubtful.add(request.id)
        tap = self._road.taps.on(request.path)
        self._subscriptions[request.id] = None if tap is None else Tapped(tap, _plain(request), self._asked().actor)

    async def _see_through(self, frame: Frame) -> None:
        """See a frame's mutations through, from their intents to their outcomes."""
        road = self._road
        rules = [road.mirror.contract.mutations.get(each.path) for each in frame.requests]
        phases = {rule.phase for rule, each in zip(rules, frame.requests, strict=True) if rule and _mutates(each)}
        inside = await road.fence.enter(sorted(phases))
        try:
            calls = [
                Call(index, each.path, _plain(each), rule)
                for index, (each, rule) in enumerate(zip(frame.requests, rules, strict=True))
                if _mutates(each) and road.mirror.mirrors(rule)
            ]
            if calls:
                async with road.mirror.attempt(calls, self._asked()) as attempt:
                    if self._closed:
                        frame.dropped = True
                        await attempt.not_sent("socket_closed")
                        return
                    frame.attempt = attempt
                    frame.unsettled = {call.index for call in calls}
                    frame.ready.set()
                    await self._await_outcomes(frame, attempt)
            else:
                road.mirror.metrics.not_mirrored("stage_off" if any(rules) else "unmapped")
        except Exception as error:  # told to the client, whatever it is
            if frame.ready.is_set():
                raise
            frame.refusal = error
        finally:
            road.fence.leave(inside)
            frame.ready.set()
            frame.over.set()
            frame.finished.set()
            self._frames.discard(frame)

    async def _await_outcomes(self, frame: Frame, attempt: Attempt) -> None:
        try:
            async with asyncio.timeout(self._road.patience):
                await frame.over.wait()
        except TimeoutError:
            frame.given_up = True
        async with frame.turn:
            late = sorted(frame.unsettled)
            if late:
                await attempt.doubt("response_timeout" if frame.given_up else "socket_closed")
        if frame.given_up:
            sentence = "the legacy did not answer in time"
            for index in late:
                await self._answer(frame.requests[index], "GATEWAY_TIMEOUT", sentence)

    async def _refuse(self, requests: Sequence[Request], error: Exception) -> None:
        if isinstance(error, LogUnavailable):
            self._road.mirror.metrics.not_mirrored("log_unavailable")
            sentence = "the event log cannot be written, so no mutation is taken; try again shortly"
        else:
            sentence = str(error)
        code = "BAD_REQUEST" if isinstance(error, Unrecordable) else "SERVICE_UNAVAILABLE"
        logger.error("frame_refused", reason=type(error).__name__)
        for request in requests:
            await self._answer(request, code, sentence)

    async def _answer(self, request: Request, code: str, sentence: str) -> None:
        text = self._error(request, code, sentence)
        await self._to_client.put(text, len(text))

    def _error(self, request: Request, code: str, sentence: str) -> str:
        return wire.error(request.id, code, sentence, transformer=self._road.transformer, path=request.path)

    # --- from the legacy ---------------------------------------------------------------------------------------

    async def server_message(self, message: Message) -> Message | None:
        """Let a message go on at once, or take it in and let it go on when what it tells of is durable."""
        if message in {wire.PING, wire.PONG}:
            return message
        held = self._held(message)
        if held is None and self._to_client.idle:
            return message
        await self._to_client.put(message if held is None else held, len(message))
        return None

    def _held(self, message: Message) -> asyncio.Task[Message | None] | None:
        """Begin what has to be durable before a message goes on; None when nothing has to."""
        if not (self._places or self._subscriptions or self._calls):
            return None
        match wire.parse_server_frame(message, self._road.transformer):
            case Answer(id=identity, outcome=outcome) as answer:
                tapped = self._subscriptions.get(identity)
                if tapped is not None and isinstance(outcome, Success):
                    item = _item(outcome.data, tracked=answer.event_id is not None)
                    return self._tasks.spawn(self._take_item(tapped, item, message), name="websocket_item")
                return self._take_answer(identity, outcome, message)
            case Stopped(id=identity):
                self._subscriptions.pop(identity, None)
            case _:
                pass
        return None

    async def _take_item(self, tapped: Tapped, item: Json, message: Message) -> Message:
        async with tapped.turn:
            await self._road.taps.item(tapped.tap, tapped.input, item, actor=tapped.actor)
        return message

    def _take_answer(self, identity: Id, outcome: CallOutcome, message: Message) -> asyncio.Task[Message | None] | None:
        request = self._calls.answered(identity)
        place = None if request is None else self._places.pop(id(request), None)
        if request is None or place is None:
            return None
        if identity in self._doubtful:
            outcome = Unknown("ambiguous_id")
        frame, index = place
        return self._tasks.spawn(self._settle(frame, index, outcome, message), name="websocket_answer")

    async def _settle(self, frame: Frame, index: int, outcome: CallOutcome, message: Message) -> Message | None:
        """Return the answer once its outcome is durable; None when the client was told otherwise meanwhile."""
        async with frame.turn:
            if frame.given_up:
                return None
            assert frame.attempt is not None
            try:
                await frame.attempt.settle({index: outcome})
            except LogUnavailable as error:
                logger.error("outcome_not_recorded", reason=str(error))
                sentence = "the call was made, but what became of it could not be recorded yet"
                return self._error(frame.requests[index], "GATEWAY_TIMEOUT", sentence)
            finally:
                frame.settled(index)
        if not frame.unsettled:
            await frame.finished.wait()
        return message

    # --- ends --------------------------------------------------------------------------------------------------

    async def client_gone(self) -> None:
        """Return when every mutation that the client has sent is seen through: its going cancels none."""
        await self._to_legacy.left()
        for frame in tuple(self._frames):
            await frame.over.wait()

    async def legacy_gone(self) -> None:
        """Return when the client has every answer that came; what was not answered is in doubt."""
        self._closed = True
        await self._to_client.left()
        for frame in tuple(self._frames):
            frame.over.set()

    async def ended(self) -> None:
        """Return when every outcome is recorded."""
        await self.legacy_gone()
        while len(self._tasks):
            await self._tasks.drain(1)
            for frame in tuple(self._frames):
                frame.over.set()


def _mutates(request: Request) -> bool:
    return request.type == "mutation"


def _plain(request: Request) -> Json:
    return None if request.input is UNDEFINED or isinstance(request.input, Malformed) else request.input


def _item(data: Json | Undefined, *, tracked: bool) -> Json:
    """Return what a subscription yielded; a tracked value is wrapped here, with its id."""
    if data is UNDEFINED:
        return None
    return data.get("data") if tracked and isinstance(data, dict) else data
