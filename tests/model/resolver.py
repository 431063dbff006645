"""A doubt's way, step by step: `proxy.doubt` without its waiting, its quarantine and its trouble with reading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from proxy import births, verdict
from proxy.births import Birth, Candidate, Create, create_of
from proxy.conclusion import Case, Conclusions
from proxy.verdict import Look
from shadow.batch import Settle
from shadow.contract import EventRule, Rule
from shadow.errors import LogUnavailable
from shadow.events import Effect, EntityKey
from shadow.journal import UNSETTLED, Intent, Outcome, Settlement
from tests.model.database import Result
from tests.model.notes import CONTRACT, NOTE
from tests.model.world import Doubt, Evidence, Flaw, Looking, World, without

EXAMINED = (Looking.LISTED, Looking.SEEN, Looking.SETTLING)


def owe(world: World, doubt: Doubt) -> World:
    """The log is asked to take an outcome that is known."""
    assert doubt.owed is not None
    return world.doubting(replace(doubt, at=Looking.SETTLING)).ask(("doubt", doubt.intent), Settle([doubt.owed]))


def may_look(world: World, doubt: Doubt) -> bool:
    """Tell whether its call can no longer apply, and no other doubt on what it is about is being looked into."""
    if doubt.at is not Looking.RESTING:
        return False
    intent = world.database.intents[doubt.intent]
    ripe = world.now >= intent.deadline or not verdict.may_still_run(doubt.reason)
    if Flaw.EAGER_DOUBT in world.flaws:
        ripe = True
    mine = _turns(world, doubt)
    others = [_turns(world, each) for each in world.up.doubts.values() if each.at in EXAMINED]
    free = all(mine.isdisjoint(other) for other in others)
    return ripe and (free or Flaw.NO_TURNS in world.flaws)


def _turns(world: World, doubt: Doubt) -> set[EntityKey]:
    case = _case(world, doubt.intent)
    rule, intent = case.rule, case.intent
    keys = rule.keys_before(intent.input, intent.received)
    return {*keys, *(EntityKey("@creates", NOTE.name) for _ in _made(world, doubt))}


def look(world: World, doubt: Doubt) -> World:
    """Its entities are read from the legacy; a create's is looked for among all that the legacy has."""
    case = _case(world, doubt.intent)
    rule, intent = case.rule, case.intent
    if intent.outcome not in UNSETTLED:
        return _over(world, doubt)
    keys = rule.keys_before(intent.input, intent.received)
    looks = tuple(_look(world, rule, intent, key) for key in keys)
    positions = {key: world.database.position(key) for key in keys}
    made = _made(world, doubt)
    strangers = tuple(_listed(world)) if made else ()
    waits = world.up.under_way(NOTE.name) if made else frozenset()
    if Flaw.NO_WAIT_FOR_MAKERS in world.flaws:
        waits = frozenset()
    wanted = tuple(create_of(event, intent.input, intent) for event in made)
    evidence = Evidence(looks, positions, strangers, waits)
    return world.doubting(replace(doubt, at=Looking.LISTED, wanted=wanted, evidence=evidence))


def _look(world: World, rule: Rule, intent: Intent, key: EntityKey) -> Look:
    before = world.database.fields(key)
    creates = any(event.effect is Effect.CREATE for event in rule.events)
    return Look(
        NOTE,
        key,
        before,
        rule.predict(intent.input, before, intent.received, key),
        world.legacy.notes.get(key.key),
        frozenset(NOTE.fields),
        known=world.database.state(key) is not None or creates,
    )


def _listed(world: World) -> Iterator[Candidate]:
    for key, fields in sorted(world.legacy.notes.items()):
        if world.database.state(EntityKey(NOTE.name, key)) is None:
            yield Candidate(key, fields, {"id": key, **fields})


def may_sift(world: World, doubt: Doubt) -> bool:
    """Tell whether the creates under way that may have made what was found have ended, or are in doubt as well."""
    waits = doubt.evidence.waits if doubt.evidence is not None else frozenset()
    return doubt.at is Looking.LISTED and waits.isdisjoint(world.up.under_way(NOTE.name))


def sift(world: World, doubt: Doubt) -> World:
    """What the log knows by now is no stranger, nor what is locked: some call has named it before it was there.

    If the log has moved on, one has to look again.
    """
    evidence = doubt.evidence
    assert evidence is not None
    if any(world.database.position(key) != position for key, position in evidence.positions.items()):
        return world.doubting(_again(doubt))
    known = world.database.states.keys() | (frozenset() if Flaw.NAMED_IS_STRANGE in world.flaws else world.up.held())
    strangers = tuple(one for one in evidence.strangers if EntityKey(NOTE.name, one.key) not in known)
    return world.doubting(replace(doubt, at=Looking.SEEN, evidence=replace(evidence, strangers=strangers)))


def may_conclude(world: World, doubt: Doubt) -> bool:
    """Tell whether no request holds what it was found to have made."""
    if doubt.at is not Looking.SEEN:
        return False
    found = {EntityKey(NOTE.name, one.key) for birth in _births(world, doubt) for one in birth.found}
    return found.isdisjoint(world.up.held_by_requests())


def conclude(world: World, doubt: Doubt) -> World:
    """It is decided what became of the call, and the log is asked to take it."""
    births = _births(world, doubt)
    found = [EntityKey(NOTE.name, one.key) for birth in births for one in birth.found]
    if any(world.database.state(key) is not None or key.key not in world.legacy.notes for key in found):
        return world.doubting(_again(doubt))
    settlement = _settlement(world, doubt, [_whole(world, birth) for birth in births])
    asking = replace(doubt, at=Looking.SETTLING, also=frozenset(found))
    return world.doubting(asking).ask(("doubt", doubt.intent), Settle([settlement]))


def _births(world: World, doubt: Doubt) -> list[Birth]:
    assert doubt.evidence is not None
    others = [] if Flaw.OTHERS_IGNORED in world.flaws else list(_others(world, doubt))
    return [births.attribute(want, others, doubt.evidence.strangers) for want in doubt.wanted]


def _others(world: World, doubt: Doubt) -> Iterator[Create]:
    """Yield what the other creates in doubt would have made, the earliest first."""
    for number, other in sorted(world.up.doubts.items()):
        if number != doubt.intent:
            intent = world.database.intents[number]
            yield from (create_of(event, intent.input, intent) for event in _made(world, other))


def _whole(world: World, birth: Birth) -> Birth:
    """Read what was found once more, each by itself."""
    read = [(one.key, world.legacy.notes[one.key]) for one in birth.found]
    return birth._replace(found=[Candidate(key, fields, {"id": key, **fields}) for key, fields in read])


def _settlement(world: World, doubt: Doubt, found: list[Birth]) -> Settlement:
    assert doubt.evidence is not None
    case, looks = _case(world, doubt.intent), doubt.evidence.looks
    conclusions = Conclusions(world.database.fields, lambda kind: (), lambda: world.now, world.names().__next__, None)
    return conclusions.settle(case, looks, found, superseded=any(_hidden(world, case, look) for look in looks))


def _hidden(world: World, case: Case, look: Look) -> bool:
    """Tell whether another call may have hidden what this one did."""
    if verdict.supersedes(world.database.cause(look.key), case.intent, world.database.request_of):
        return True
    return verdict.undone(look, case.change(look.key), list(_changes(world, case.intent, look.key)))


def _changes(world: World, intent: Intent, key: EntityKey) -> Iterator[verdict.Change]:
    """Yield what other calls of the same request make of an entity, of which nobody knows either."""
    unknown = {*UNSETTLED, Outcome.OBSERVED}
    for other in world.database.intents.values():
        if other.request == intent.request and other.id != intent.id and other.outcome in unknown:
            case = _case(world, other.id)
            if key in case.rule.keys_before(other.input, other.received):
                yield case.change(key)


def concluded(world: World, doubt: Doubt, result: Result) -> World:
    """It hears that the outcome is durable, and lets its locks go; or that the log does not take it."""
    if isinstance(result, LogUnavailable):
        return world.doubting(replace(doubt, at=Looking.OWING) if doubt.owed is not None else _again(doubt))
    assert result is None, result
    still = doubt.owed is not None and doubt.owed.outcome is Outcome.IN_DOUBT
    if still and Flaw.OWED_DOUBT_FORGOTTEN not in world.flaws:
        return world.doubting(replace(doubt, at=Looking.RESTING, owed=None))
    return _over(world, doubt)


def _over(world: World, doubt: Doubt) -> World:
    return world.having(doubts=without(world.up.doubts, doubt.intent))


def _again(doubt: Doubt) -> Doubt:
    return replace(doubt, at=Looking.RESTING, evidence=None, also=frozenset())


def _case(world: World, id: int) -> Case:
    intent = world.database.intents[id]
    return Case(intent, CONTRACT.mutations[intent.procedure], intent.input)


def _made(world: World, doubt: Doubt) -> tuple[EventRule, ...]:
    case = _case(world, doubt.intent)
    return case.rule.unnamed(case.input, case.intent.received)
