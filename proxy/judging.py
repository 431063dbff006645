"""What an answer means for the journal and the log: pure decisions over one call and what became of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

import msgspec
from msgspec.structs import replace

from proxy.trpc.envelopes import CallOutcome, Failure, Success, Unknown
from proxy.trpc.transformers import UNDEFINED
from shadow.contract import ExpressionError, Rule
from shadow.errors import LogUnavailable
from shadow.events import EntityKey
from shadow.journal import ANSWERED, Outcome, Settlement
from shadow.json import Json
from shadow.privacy import Privacy

MAY_STILL_RUN = frozenset(
    {"TIMEOUT", "CLIENT_CLOSED_REQUEST", "BAD_GATEWAY", "SERVICE_UNAVAILABLE", "GATEWAY_TIMEOUT", "UNKNOWN"}
)
"""Errors that may come from whoever stands before the legacy while the call runs on."""

UNSUCCESSFUL = "unsuccessful"
"""The reason of a rejection by the contract's success rule: the call ran, and says that it did nothing."""

StateReader = Callable[[EntityKey], dict[str, Json] | None]
KeysOf = Callable[[str], Iterable[str]]


class Call(msgspec.Struct, frozen=True):
    """One call that may change something; without a rule it is recorded as unmapped."""

    index: int
    procedure: str
    input: Json
    rule: Rule | None
    only_reads: Callable[[], Awaitable[bool]] | None = None
    """Finds out, once a call without a rule has succeeded, whether it surely changed nothing."""


class Asked(msgspec.Struct, frozen=True):
    """Who asked, when (milliseconds), and under which request id and idempotency key."""

    request: str
    received: int
    actor: str | None = None
    idempotency: str | None = None
    fingerprint: str | None = None
    keep_until: int = 0
    """With an idempotency key: what tells a retry from another request, and until when its answer is kept."""


class SpoolEnd(msgspec.Struct, frozen=True):
    """What the spool keeps of the outcome of the call at `index`: whatever it takes to judge it later."""

    index: int
    outcome: str
    output: Json
    detail: str | None


class Judges(msgspec.Struct, frozen=True):
    """What it takes to judge an answer that carries a result."""

    read_state: StateReader
    keys_of: KeysOf
    """The keys of all entities of a kind that are there."""
    new_id: Callable[[], str]
    privacy: Privacy

    def judge(self, call: Call, output: Json, *, intent: int, now: int, actor: str | None) -> Settlement:
        """Decide what an answer that carries a result means by the contract.

        A result that the contract's success rule denies is a rejection. A call whose expressions fail on real data
        was applied, but nobody can say as what: it is in doubt, and observation of the entity settles it. What the
        contract calls secret leaves this function sealed.
        """
        rule = call.rule
        if rule is None:
            return Settlement(intent, Outcome.APPLIED, now, detail="unmapped")
        try:
            if not rule.succeeded(call.input, output):
                return Settlement(intent, Outcome.REJECTED, now, detail=UNSUCCESSFUL)
            drafts = rule.decide(
                call.input,
                output,
                self.read_state,
                now,
                self.new_id,
                cause=f"intent:{intent}",
                actor=actor,
                keys_of=self.keys_of,
            )
        except ExpressionError as error:
            return Settlement(intent, Outcome.IN_DOUBT, now, detail=f"contract:{error.key}")
        sealed = self.privacy.seal_drafts(call.procedure, call.input, output, drafts)
        return Settlement(intent, Outcome.APPLIED, now, sealed)


def unproven(outcome: CallOutcome, *, answered: bool) -> tuple[Outcome, str] | None:
    """Return what to record of an outcome that carries no result to judge, with the reason; None of one that does.

    `answered` tells that the legacy itself said so, and surely is done with the call.
    """
    match outcome:
        case Success(interrupted=True):
            return Outcome.IN_DOUBT, ANSWERED + "interrupted"
        case Success():
            return None
        case Failure(code=code, proven=True):
            return Outcome.REJECTED, code
        case Failure(code=code):
            ended = answered and code not in MAY_STILL_RUN
            return Outcome.IN_DOUBT, ANSWERED + code if ended else code
        case Unknown(reason=reason):
            return Outcome.IN_DOUBT, ANSWERED + reason if answered else reason
    raise AssertionError(outcome)


def output_of(outcome: CallOutcome) -> Json:
    """Return the result of a call that succeeded, None for a void one."""
    assert isinstance(outcome, Success)
    return None if outcome.data is UNDEFINED else outcome.data


def spool_end(index: int, outcome: CallOutcome, *, answered: bool) -> SpoolEnd:
    """Return what the spool keeps of a call's outcome."""
    recorded = unproven(outcome, answered=answered)
    if recorded is None:
        return SpoolEnd(index, "success", output_of(outcome), None)
    return SpoolEnd(index, recorded[0].value, None, recorded[1])


def with_answer(settlements: Sequence[Settlement], answer: bytes) -> list[Settlement]:
    """Return the settlements of a request with its answer, to be kept by the first of them; the others point to it.

    Nothing is kept when every call was refused before it did anything: asking again is then asking for the first time.
    """
    final = [each for each in settlements if each.outcome in {Outcome.APPLIED, Outcome.REJECTED}]
    if all(each.outcome is Outcome.REJECTED and each.detail != UNSUCCESSFUL for each in final):
        return list(settlements)
    return [
        replace(each, answer=answer if each is final[0] else b"") if each in final else each for each in settlements
    ]


def keys_before(call: Call, now: int, keys_of: KeysOf) -> tuple[EntityKey, ...]:
    """Return the entities that a call is known to touch before it is forwarded, sorted.

    An input that the contract cannot read names none: the legacy will refuse it, or its outcome becomes a doubt.
    Nor does a log that cannot be read, where it is asked which keys there are.
    """
    if call.rule is None:
        return ()
    try:
        return call.rule.keys_before(call.input, now, keys_of)
    except (ExpressionError, LogUnavailable):
        return ()


def kinds_made(call: Call, now: int) -> frozenset[str]:
    """Return the kinds of entity that a call makes under keys which only its answer tells."""
    if call.rule is None:
        return frozenset()
    return frozenset(event.entity.name for event in call.rule.unnamed(call.input, now) if event.entity)
