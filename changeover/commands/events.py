"""`changeover events`: reading the log."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from changeover import options
from changeover.settings import DATABASE
from shadow.events import EntityKey, Event
from shadow.json import Json

app = typer.Typer(help="Read the log: follow it, look at one event, an entity's history, verify the chain.")
app.info.no_args_is_help = True

Channels = Annotated[list[str], typer.Option("--channel", "-c", help="A channel or pattern; may be repeated.")]


@app.command()
def tail(
    channel: Channels = ["*"],  # noqa: B006  typer copies it
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the newest to begin with.")] = 20,
    after: Annotated[int | None, typer.Option(min=0, help="Begin after this position instead.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes; Ctrl-C ends.")] = False,
    database: options.Database = DATABASE,
    as_json: options.AsJson = False,
) -> None:
    """Print the newest events, oldest first."""
    from changeover.database import newest, reading

    with reading(database) as log:
        if after is None:
            first = newest(log, channel, lines)
            position = first[-1].position if first else log.head.position
        else:
            first, position = [], after
        for event in first:
            _show_line(event, as_json=as_json)
        while True:
            for event in log.read(channel, after=position, limit=500):
                _show_line(event, as_json=as_json)
                position = event.position
            if position >= log.head.position or not log.read(channel, after=position, limit=1):
                if not follow:
                    return
                time.sleep(0.2)


@app.command()
def show(position: int, database: options.Database = DATABASE) -> None:
    """Print one event whole."""
    from changeover.database import reading
    from changeover.errors import UserError
    from changeover.output import emit_json

    with reading(database) as log:
        found = log.event(position)
        if found is None:
            raise UserError(f"there is no event at position {position}; the log ends at {log.head.position}", code=1)
        emit_json(as_facts(found))


@app.command()
def history(entity: str, key: str, database: options.Database = DATABASE, as_json: options.AsJson = False) -> None:
    """Print everything that happened to one entity, oldest first."""
    from changeover.database import reading
    from changeover.errors import UserError

    with reading(database) as log:
        found = log.history(EntityKey(entity, key))
    if not found:
        raise UserError(f"the log has no event of {entity} {key!r}", code=1)
    for event in found:
        _show_line(event, as_json=as_json)


@app.command()
def verify(database: options.Database = DATABASE, as_json: options.AsJson = False) -> None:
    """Check the hash chain from the first event to the last; exit code 1 and the place where it breaks."""
    from changeover.database import reading
    from changeover.output import emit_json, say, show_progress

    with reading(database) as log:
        events = log.head.position
        broken = log.verify(None if as_json else show_progress("verified"))
    if as_json:
        place = broken and {"position": broken.position, "damage": broken.damage.value}
        emit_json({"events": events, "intact": broken is None, "broken": place})
    elif broken is None:
        say(f"intact: {events} events, each sealed by the hash of the one before it")
    else:
        say(f"BROKEN at position {broken.position}: {broken.damage.value}")
    if broken is not None:
        raise typer.Exit(1)


def as_facts(event: Event) -> dict[str, Json]:
    """Return an event as the JSON that commands print."""
    from changeover.output import instant
    from shadow.secrets import mask

    draft = event.draft
    return {
        "position": event.position,
        "id": draft.id,
        "channel": draft.channel,
        "type": draft.type,
        "time": instant(draft.time),
        "data": mask(draft.data),
        "entity": draft.entity and draft.entity.entity,
        "key": draft.entity and draft.entity.key,
        "effect": draft.effect.value,
        "change": mask(draft.change),
        "actor": draft.actor,
        "cause": draft.cause,
        "hash": event.hash,
    }


def _show_line(event: Event, *, as_json: bool) -> None:
    from changeover.output import brief, emit_json, instant, say
    from shadow.secrets import mask

    if as_json:
        emit_json(as_facts(event))
        return
    draft = event.draft
    say(f"{event.position:>8}  {instant(draft.time)}  {draft.channel:<24} {draft.type:<26} {brief(mask(draft.data))}")
