"""`changeover state`: what the events add up to, now or then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from changeover import options
from changeover.settings import DATABASE
from shadow.events import EntityKey

if TYPE_CHECKING:
    from shadow.reader import At, Reader
    from shadow.state import State


def state(
    entity: str,
    key: Annotated[str | None, typer.Argument(help="Without a key, every entity of the kind is listed.")] = None,
    at: Annotated[str | None, typer.Option(help="A position, or a time such as 2026-01-31T12:00:00Z.")] = None,
    database: options.Database = DATABASE,
    as_json: options.AsJson = False,
) -> None:
    """Show the projected state of one entity, or of all of a kind, now or at any moment of the past."""
    from changeover.database import reading
    from changeover.errors import UserError
    from changeover.output import brief, emit_json, say
    from shadow.secrets import mask

    moment = None if at is None else _moment(at)
    with reading(database) as log:
        if key is None:
            for named, found in _all(log, entity, moment):
                if as_json:
                    emit_json({"key": named.key, "position": found.position, "fields": mask(found.fields)})
                else:
                    say(f"{named.key:<24} @{found.position:<8} {brief(mask(found.fields))}")
            return
        one = log.state(EntityKey(entity, key)) if moment is None else log.at(EntityKey(entity, key), moment)
    if one is None or one.fields is None:
        gone = f" (deleted at position {one.position})" if one else ""
        raise UserError(f"{entity} {key!r} is not in the state{gone}", code=1)
    if as_json:
        emit_json({"key": key, "position": one.position, "fields": mask(one.fields)})
    else:
        say(f"{entity} {key}, last changed at position {one.position}")
        for name, value in sorted(mask(one.fields).items()):
            say(f"  {name:<20} {brief(value)}")


def _all(log: Reader, entity: str, moment: At | None) -> Iterator[tuple[EntityKey, State]]:
    """Yield every entity of a kind that is there, in the order of their keys."""
    if moment is not None:
        found = log.states_at(moment).items()
        yield from sorted(
            ((key, state) for key, state in found if key.entity == entity and state.fields is not None),
            key=lambda each: each[0],
        )
        return
    page = log.states(entity, None, 1000)
    while page:
        yield from ((key, state) for key, state in page if state.fields is not None)
        page = log.states(entity, page[-1][0].key, 1000)


def _moment(text: str) -> At:
    from datetime import UTC, datetime

    from changeover.errors import UserError
    from shadow.reader import At

    if text.isdigit():
        return At(position=int(text))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"--at takes a position or an ISO 8601 time, not {text!r}", code=2) from None
    return At(time=round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000))
