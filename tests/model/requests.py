"""A request's way through the proxy, step by step: `proxy.mirror` and `proxy.idempotency` without their waiting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from msgspec import structs

from proxy import idempotency, judging, observation, verdict
from proxy.idempotency import STILL_UNKNOWN, Refused
from proxy.judging import Call, Judges
from proxy.trpc.envelopes import CallOutcome, Success, Unknown
from shadow import json
from shadow.batch import Append, Begin, Settle
from shadow.errors import KeyReused, LogUnavailable, PositionConflict
from shadow.events import Draft, EntityKey
from shadow.journal import NewIntent, Outcome, Settlement
from shadow.stages import Stage
from tests.model.database import Result
from tests.model.legacy import answer, take
from tests.model.notes import MAX_REQUEST, NOTE, PHASE, PRIVACY
from tests.model.world import (
    ALLOWANCE,
    At,
    Doubt,
    Flaw,
    Heard,
    Looking,
    Making,
    Request,
    Sent,
    Turning,
    World,
    without,
)

# --- in ----------------------------------------------------------------------------------------------------------


def arrive(world: World, sent: Sent) -> World:
    """A request comes in."""
    request = Request(sent, At.OUTSIDE, world.now)
    there = replace(world, sent=(*world.sent, sent)).of(request)
    return there if world.up.turning is not Turning.NOT and Flaw.NO_FENCE not in world.flaws else enter(there, request)


def enter(world: World, request: Request) -> World:
    """It passes the open fence; what is not mirrored goes on to the legacy, and is none of the model's business."""
    if world.up.stage is Stage.OFF:
        return _telling(world, replace(request, epoch=world.up.epoch), Heard(request.sent.number))
    return wait(world, replace(request, epoch=world.up.epoch))


def wait(world: World, request: Request) -> World:
    """It waits for what came before on its entities, the creates that may have made them included."""
    keys = tuple(judging.keys_before(call, request.received, _no_keys) for call in request.sent.calls)
    unknown = {key.entity for mine in keys for key in mine if world.database.state(key) is None}
    waits: frozenset[int] = frozenset().union(*map(world.up.makings, unknown))
    if Flaw.NO_WAIT_FOR_CREATES in world.flaws:
        waits = frozenset()
    return world.of(replace(request, at=At.WAITING, keys=keys, waits=waits))


def may_lock(world: World, request: Request) -> bool:
    """Tell whether nobody is before it any more."""
    wanted = {key for mine in request.keys for key in mine}
    under_way = world.up.makings(NOTE.name)
    return wanted.isdisjoint(world.up.held()) and request.waits.isdisjoint(under_way)


def lock(world: World, request: Request) -> World:
    """It takes its locks, says what it makes, and asks for its intents."""
    numbers = iter(range(world.up.creates, world.up.creates + len(request.sent.calls)))
    kinds = {call.index: judging.kinds_made(call, request.received) for call in request.sent.calls}
    making = {index: Making(next(numbers), made) for index, made in kinds.items() if made}
    held = frozenset(key for mine in request.keys for key in mine)
    if Flaw.NO_LOCKS in world.flaws:
        held = frozenset()
    late = 0 if Flaw.FORWARD_LATE in world.flaws else ALLOWANCE
    locked = replace(request, at=At.BEGINNING, held=held, making=making, until=world.now + late + MAX_REQUEST)
    there = world.of(locked).having(creates=next(numbers, world.up.creates + len(request.sent.calls)))
    return there.ask(_owner(request), Begin([_intent(locked, call) for call in request.sent.calls]))


def _intent(request: Request, call: Call) -> NewIntent:
    keys = request.keys[call.index]
    return NewIntent(
        request=request.sent.name,
        index=call.index,
        procedure=call.procedure,
        phase=PHASE,
        stage_epoch=request.epoch,
        entity_key=keys[0] if keys else None,
        input=call.input,
        actor=None,
        received=request.received,
        deadline=request.until,
        idempotency=request.sent.key,
        fingerprint=fingerprint(request.sent),
    )


def begun(world: World, request: Request, result: Result) -> World:
    """It hears of its intents: they are durable, or its key is taken, or the log does not take them."""
    match result:
        case KeyReused():
            return world.of(_released(replace(request, at=At.RECALLING)))
        case LogUnavailable(unknown=unknown):
            refused = world.up.refused | ({request.sent.number} if unknown else frozenset())
            return _telling(world.having(refused=refused), _released(request), Heard(request.sent.number))
        case tuple(ids):
            return world.of(replace(request, at=At.INTENDED, intents=ids))
    raise AssertionError(result)


def recall(world: World, request: Request) -> World:
    """A retry gets the answer that was given, or is refused; where nothing was applied it is a first try."""
    found = remembered(world, request)
    if found is None:
        return wait(world, replace(request, received=world.now))
    kept = None if isinstance(found, Refused) else tuple(json.decode(found))
    return _telling(world, request, Heard(request.sent.number, kept))


def remembered(world: World, request: Request) -> bytes | Refused | None:
    """Return what the log knows of a request's idempotency key."""
    sent = request.sent
    indexes = tuple(call.index for call in sent.calls)
    assert sent.key is not None
    return idempotency.look(world.database, sent.key, indexes, fingerprint(sent), world.now)


def is_remembered(world: World, request: Request) -> bool:
    """Tell whether it is known what a retry gets."""
    return remembered(world, request) is not STILL_UNKNOWN


def fingerprint(sent: Sent) -> str:
    """Return what tells a retry from another request."""
    return json.encode([(call.procedure, call.input) for call in sent.calls]).decode()


def disown(world: World, number: int) -> World:
    """The intents that a refused request may have are settled: nothing was forwarded."""
    mine = [each for each in world.database.intents.values() if each.request == f"r{number}"]
    settlements = [
        Settlement(each.id, Outcome.NOT_APPLIED, world.now, detail="never_sent")
        for each in mine
        if each.outcome is Outcome.OPEN
    ]
    return world.having(refused=world.up.refused - {number}).ask(("refused", number), Settle(settlements))


# --- there and back ----------------------------------------------------------------------------------------------


def may_forward(world: World, request: Request) -> bool:
    """Tell whether it may go to the legacy: only so that it can no longer apply when its intents say so."""
    if Flaw.FORWARD_BEFORE_INTENT in world.flaws and request.at is At.BEGINNING:
        return (request.sent.number, 0) not in world.legacy.runs
    late = world.now > request.until - MAX_REQUEST and Flaw.FORWARD_LATE not in world.flaws
    return request.at is At.INTENDED and not late


def forward(world: World, request: Request) -> World:
    """It goes to the legacy, once."""
    number, calls = request.sent.number, request.sent.calls
    there = world
    if (number, 0) not in world.legacy.runs:
        there = replace(world, legacy=take(world.legacy, number, calls, world.now + MAX_REQUEST))
    return there.of(replace(request, at=At.FORWARDED if request.at is At.INTENDED else request.at))


def fail_to_send(world: World, request: Request) -> World:
    """It surely never reached the legacy."""
    settlements = [Settlement(intent, Outcome.NOT_APPLIED, world.now, detail="not_sent") for intent in request.intents]
    return _settling(world, replace(request, reply=Heard(request.sent.number)), settlements)


def lose(world: World, request: Request) -> World:
    """No answer came."""
    outcomes = dict.fromkeys(range(len(request.sent.calls)), Unknown("response_timeout"))
    return _settle(world, replace(request, reply=Heard(request.sent.number)), outcomes, answered=False)


def is_answered(world: World, request: Request) -> bool:
    """Tell whether its answer is there, and whole."""
    return answer(world.legacy, request.sent.number, request.sent.calls) is not None


def read(world: World, request: Request) -> World:
    """Its answer is read; where calls of it were applied to one entity, that has to be looked at first."""
    outcomes = answer(world.legacy, request.sent.number, request.sent.calls)
    assert outcomes is not None
    answered = replace(request, reply=Heard(request.sent.number, tuple(map(_is_done, outcomes))))
    if Flaw.ANSWER_BEFORE_COMMIT in world.flaws and answered.reply is not None:
        world = replace(world, heard=(*world.heard, answered.reply))
    unclear = frozenset(key for key, mine in _shared(request).items() if _applied(outcomes, mine))
    answered = replace(answered, unclear=unclear)
    if any(len(_applied(outcomes, mine)) > 1 for mine in _shared(request).values()):
        return world.of(replace(answered, at=At.ANSWERED))
    return _settle(world, answered, dict(enumerate(outcomes)), answered=True)


def look_at_order(world: World, request: Request) -> World:
    """The legacy is asked which of several calls on one entity came last; their events get that order."""
    outcomes = answer(world.legacy, request.sent.number, request.sent.calls)
    assert outcomes is not None
    order, unclear = list(range(len(outcomes))), set(request.unclear)
    for key, mine in _shared(request).items():
        applied = _applied(outcomes, mine)
        explained = _explained(world, request, key, applied) if len(applied) > 1 else None
        if explained is None:
            continue
        places = [place for place, index in enumerate(order) if index in applied]
        for place, index in zip(places, explained, strict=True):
            order[place] = index
        if len(applied) == len(mine):
            unclear.discard(key)
    clear = replace(request, unclear=frozenset(unclear))
    if Flaw.NO_LOOK_AT_ORDER in world.flaws:
        order, clear = sorted(order), replace(request, unclear=frozenset())
    return _settle(world, clear, {index: outcomes[index] for index in order}, answered=True)


def _explained(world: World, request: Request, key: EntityKey, applied: Sequence[int]) -> list[int] | None:
    """Return the calls in the order that explains what the legacy shows."""
    calls = [request.sent.calls[index] for index in applied]
    candidates = observation.orders(calls, key, world.database.fields(key), request.received)
    found = observation.explanation(NOTE, candidates, world.legacy.notes.get(key.key))
    return None if found is None else [applied[place] for place in found]


def _settle(world: World, request: Request, outcomes: Mapping[int, CallOutcome], *, answered: bool) -> World:
    """The log is asked to take what became of its calls, in this order."""
    new_id = world.names()
    settlements = [
        _settlement(world, request, request.sent.calls[index], outcome, new_id, answered=answered)
        for index, outcome in outcomes.items()
    ]
    if answered and request.sent.key is not None and request.reply is not None:
        settlements = judging.with_answer(settlements, json.encode(request.reply.done))
    return _settling(world, request, settlements)


def _settlement(
    world: World, request: Request, call: Call, said: CallOutcome, new_id: Iterator[str], *, answered: bool
) -> Settlement:
    intent = request.intents[call.index]
    recorded = judging.unproven(said, answered=answered)
    if recorded is None:
        judges = Judges(world.database.fields, _no_keys, new_id.__next__, PRIVACY)
        return judges.judge(call, judging.output_of(said), intent=intent, now=world.now, actor=None)
    outcome, reason = recorded
    if Flaw.DOUBT_TAKEN_FOR_FAILURE in world.flaws and outcome is Outcome.IN_DOUBT:
        outcome = Outcome.REJECTED
    return Settlement(intent, outcome, world.now, detail=reason)


def _settling(world: World, request: Request, settlements: Sequence[Settlement]) -> World:
    asking = replace(request, at=At.SETTLING, settlements=tuple(settlements))
    return world.of(asking).ask(_owner(request), Settle(asking.settlements))


# --- out ---------------------------------------------------------------------------------------------------------


def settled(world: World, request: Request, result: Result) -> World:
    """It hears that its outcomes are durable, or that the log does not take them."""
    if isinstance(result, LogUnavailable):
        return world.of(replace(request, at=At.REFUSED))
    assert result is None, result
    left = [_left(world, request, each) for each in request.settlements if each.outcome is Outcome.IN_DOUBT]
    gone = {doubt.making for doubt in left}
    making = {index: made for index, made in request.making.items() if made not in gone}
    done = replace(request, at=At.SETTLED, left=tuple(left), making=making)
    return world.of(done) if done.unclear else leave(world, done)


def insist(world: World, request: Request) -> World:
    """The log is offered the outcomes again."""
    if Flaw.WRITTEN_AGAIN in world.flaws:
        drafts = [draft for each in request.settlements for draft in each.drafts]
        renamed = [structs.replace(draft, id=id) for draft, id in zip(drafts, world.names(), strict=False)]
        world = world.ask(("refused", request.sent.number), Append(renamed, {}))
    return world.of(replace(request, at=At.SETTLING)).ask(_owner(request), Settle(request.settlements))


def give_up(world: World, request: Request) -> World:
    """The client hears that nobody knows; the outcomes are owed to the log, and its locks are kept until then."""
    left = [replace(_left(world, request, each), owed=each, at=Looking.OWING) for each in request.settlements]
    reply = Heard(request.sent.number)
    return leave(world, replace(request, left=tuple(left), making={}, unclear=frozenset(), reply=reply))


def _left(world: World, request: Request, settlement: Settlement) -> Doubt:
    index = request.intents.index(settlement.intent)
    keys = tuple(key for key in request.keys[index] if key in request.held)
    if Flaw.DOUBT_WITHOUT_LOCKS in world.flaws:
        keys = ()
    return Doubt(settlement.intent, settlement.detail or "log_unavailable", keys, request.making.get(index))


def observe(world: World, request: Request) -> World:
    """What is not as the log has it, because nobody saw the order of its calls, is recorded as found."""
    looks = [_view(world, key) for key in sorted(request.unclear)]
    new_id = world.names()
    drafts = [_correction(request, look, world.now, next(new_id)) for look in looks if verdict.differs(look)]
    if not drafts:
        return leave(world, request)
    expected = {draft.entity: world.database.position(draft.entity) for draft in drafts if draft.entity is not None}
    return world.of(replace(request, at=At.CORRECTING)).ask(_owner(request), Append(drafts, expected))


def _view(world: World, key: EntityKey) -> verdict.Look:
    return observation.view(NOTE, key, world.database.fields(key), world.legacy.notes.get(key.key))


def _correction(request: Request, look: verdict.Look, now: int, id: str) -> Draft:
    cause, channel = f"order:{request.sent.name}", f"note:{look.key.key}"
    return verdict.correction(look, cause=cause, channel=channel, now=now, id=id, actor=None)


def corrected(world: World, request: Request, result: Result) -> World:
    """It hears that what was found is durable; what the log does not take now is left to the reconciler."""
    if isinstance(result, PositionConflict):
        return world.of(replace(request, at=At.SETTLED))
    return leave(world, request)


def leave(world: World, request: Request) -> World:
    """Its locks are freed, apart from those of its calls in doubt."""
    doubts = {**world.up.doubts, **{doubt.intent: doubt for doubt in request.left}}
    return _telling(world.having(doubts=doubts), _released(replace(request, left=())), request.reply)


def tell(world: World, request: Request) -> World:
    """The client hears its answer, and it leaves the fence."""
    gone = world.having(requests=without(world.up.requests, request.sent.number))
    return gone if request.reply is None else replace(gone, heard=(*gone.heard, request.reply))


def turn_away(world: World, request: Request) -> World:
    """It has waited for long enough; nothing was forwarded."""
    return _telling(world, request, Heard(request.sent.number))


def _telling(world: World, request: Request, reply: Heard | None) -> World:
    return world.of(replace(request, at=At.TELLING, reply=reply))


def _released(request: Request) -> Request:
    return replace(request, held=frozenset(), making={}, waits=frozenset())


def _owner(request: Request) -> tuple[str, int]:
    return "request", request.sent.number


def _shared(request: Request) -> dict[EntityKey, list[int]]:
    """Return the entities that several of its calls are about, with the calls."""
    users: dict[EntityKey, list[int]] = {}
    for index, mine in enumerate(request.keys):
        for key in mine:
            users.setdefault(key, []).append(index)
    return {key: indexes for key, indexes in users.items() if len(indexes) > 1}


def _applied(outcomes: Sequence[CallOutcome], indexes: Iterable[int]) -> list[int]:
    return [index for index in indexes if isinstance(outcomes[index], Success)]


def _is_done(outcome: CallOutcome) -> bool:
    """Tell whether a client takes this for success."""
    return isinstance(outcome, Success) and outcome.data != {"ok": False}


def _no_keys(kind: str) -> Iterable[str]:
    """No rule of the model's contract asks which keys there are."""
    return ()
