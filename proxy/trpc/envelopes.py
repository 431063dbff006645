"""What an answer says of each of its calls.

The HTTP status says nothing: an item with `result` succeeded, one with `error` failed, and anything else leaves the
outcome unknown. Nor does "failed" mean "not applied": a resolver may have done its work and then been unable to tell,
so a failure carries whether it is proof.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from proxy.trpc import jsontext
from proxy.trpc.errors import CODE_OF_NUMBER, ERRORS
from proxy.trpc.jsontext import NotJsonError
from proxy.trpc.transformers import NONE, Transformer
from proxy.trpc.values import UNDEFINED, TransformerError, Undefined
from shadow.json import Json


class Success(msgspec.Struct, frozen=True):
    """The legacy says that the call succeeded; `data` is its output, UNDEFINED when void."""

    data: Json | Undefined
    interrupted: bool = False
    """True when the output is a generator's and it threw: what it had done by then nobody knows."""

    def __repr__(self) -> str:
        return "Success(…)"  # outputs may hold secrets, and reprs end up in logs


class Failure(msgspec.Struct, frozen=True):
    """The legacy says that the call failed. Its message is not kept: it may hold SQL, inputs, stack traces."""

    code: str
    """A key of ERRORS, or UNKNOWN."""
    status: int
    """The HTTP status of this call, from its error or else its code; 0 when neither says."""
    proven: bool
    """True when the resolver surely did not apply the call; False is doubt."""
    number: int = 0
    """The JSON-RPC number; 0 when there was none."""


class Unknown(msgspec.Struct, frozen=True):
    """The answer does not say what became of the call; `reason` quotes nothing of it."""

    reason: str


CallOutcome: TypeAlias = Success | Failure | Unknown


class _Result(msgspec.Struct):
    data: Any = msgspec.UNSET


class _Item(msgspec.Struct):
    result: _Result | msgspec.UnsetType = msgspec.UNSET
    error: Any = msgspec.UNSET


_decode_item = msgspec.json.Decoder(_Item).decode
_decode_items = msgspec.json.Decoder(list[_Item]).decode

MISSING = Unknown("the answer ended before this call's item")
_AMBIGUOUS = Unknown("the item holds both a result and an error")
_NO_ENVELOPE = Unknown("the item is no tRPC envelope")
_SHARED_RESULT = Unknown("one result was given for several calls")
_TOO_MANY = Unknown("the answer holds more items than the request had calls")


def decode_answer(count: int, status: int, body: bytes, transformer: Transformer = NONE) -> tuple[CallOutcome, ...]:
    """Read the outcomes of `count` calls, in their order, from a whole answer; never raises.

    One error object for a batch is every call's error. An item that is missing is Unknown.
    """
    try:
        items = _read(body)
    except NotJsonError:
        return (
            Unknown(f"the answer with status {status} is not JSON" if body else f"status {status} and no body"),
        ) * count
    if isinstance(items, list):
        outcomes = tuple([outcome_of(item, status, transformer) for item in items])
        missing = count - len(outcomes)
        if missing == 0:
            return outcomes
        return outcomes + (MISSING,) * missing if missing > 0 else (_TOO_MANY,) * count
    outcome = outcome_of(items, status, transformer)
    if count > 1 and isinstance(outcome, Success):
        return (_SHARED_RESULT,) * count
    return (outcome,) * count


def read_envelope(value: Json, status: int, transformer: Transformer = NONE) -> CallOutcome:
    """Read one outcome from an envelope that has already been parsed; never raises."""
    return outcome_of(_item(value), status, transformer)


def _read(body: bytes) -> _Item | list[_Item] | list[_Item | None] | None:
    if jsontext.is_shallow(body):
        try:
            return _decode_items(body) if body.startswith(b"[") else _decode_item(body)
        except (ValueError, RecursionError):
            pass
    value = jsontext.parse(body)
    return [_item(each) for each in value] if isinstance(value, list) else _item(value)


def _item(value: Json) -> _Item | None:
    try:
        return msgspec.convert(value, _Item)
    except (ValueError, RecursionError):
        return None


def outcome_of(item: _Item | None, status: int, transformer: Transformer) -> CallOutcome:
    """Judge one envelope; None stands for what is no envelope."""
    if item is None:
        return _NO_ENVELOPE
    result = item.result
    if item.error is not msgspec.UNSET:
        return _failure(item.error, status, transformer) if isinstance(result, msgspec.UnsetType) else _AMBIGUOUS
    if isinstance(result, msgspec.UnsetType):
        return _NO_ENVELOPE
    data = result.data
    if data is msgspec.UNSET:
        return Success(UNDEFINED)
    return Success(data) if transformer is NONE else success(data, transformer)


def success(wire: Json, transformer: Transformer) -> Success | Unknown:
    """Read the output of a call that succeeded."""
    try:
        return Success(transformer.plain(wire))
    except TransformerError:
        return Unknown(f"the result is not what the {transformer.name} transformer writes")


def _failure(wire: Json, status: int, transformer: Transformer) -> Failure | Unknown:
    try:
        shape, ours = transformer.plain(wire), True
    except TransformerError:
        # A gateway before the legacy may answer in tRPC's shape and know nothing of the transformer.
        shape, ours = wire, False
    return failure(shape, status, trusted=ours)


def failure(shape: Json, status: int, *, trusted: bool = True) -> Failure | Unknown:
    """Read an error shape, already out of its transformer; `status` is that of the HTTP answer."""
    if type(shape) is not dict:
        return Unknown("the error is no tRPC error shape")
    data = shape.get("data")
    data = data if type(data) is dict else {}
    number = shape.get("code")
    number = number if type(number) is int else 0
    code = data.get("code")
    if type(code) is not str or code not in ERRORS:
        code = CODE_OF_NUMBER.get(number, "UNKNOWN")
    said = data.get("httpStatus")
    if type(said) is not int:
        said = ERRORS[code].status if code in ERRORS else 0
    proven = trusted and status < 500 and 400 <= said < 500 and _is_proof(code, number, shape.get("message"))
    return Failure(code, said, proven, number)


_MAY_HAVE_RUN = {"TIMEOUT", "CLIENT_CLOSED_REQUEST", "UNKNOWN"}
_CONTENT_TYPE_COMPLAINTS = ("Missing content-type header", "Unsupported content-type")


def _is_proof(code: str, number: int, message: Json) -> bool:
    """Tell whether an error with a 4xx status means that the resolver did not apply the call.

    A call that timed out, or whose client left, may have run. So has one whose output needs a stream that was not
    asked for: v11 answers 415 to it, after the fact; only its complaints about the request's content type come before.
    """
    if code in _MAY_HAVE_RUN or CODE_OF_NUMBER.get(number) != code:
        return False
    if code == "UNSUPPORTED_MEDIA_TYPE":
        return type(message) is str and message.startswith(_CONTENT_TYPE_COMPLAINTS)
    return True


Proof: TypeAlias = Literal["applied", "rejected", "in_doubt"]


def verdict(outcome: CallOutcome) -> Proof:
    """Return the outcome in the journal's words, before the contract's own rule of success is asked."""
    if isinstance(outcome, Success):
        return "in_doubt" if outcome.interrupted else "applied"
    return "rejected" if isinstance(outcome, Failure) and outcome.proven else "in_doubt"
