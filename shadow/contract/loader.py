"""From a contract file to a checked contract, or to all of its mistakes."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from shadow import json
from shadow.contract.entities import Entity, GetQuery, Ignore, ListQuery, Mask
from shadow.contract.model import (
    Answerer,
    Ask,
    Channel,
    Contract,
    Legacy,
    OnLogFailure,
    Open,
    Ordering,
    Overlay,
    Phase,
    Publishable,
    Retention,
    Token,
    Transformer,
    Visibility,
)
from shadow.contract.positions import find_lines
from shadow.contract.problems import ContractError, Problem
from shadow.contract.rules import AnswerRule, EventRule, FindRule, PythonRule, Rejection, RejectRule, Rule, Tap
from shadow.contract.section import Report, Section, spell
from shadow.events import Effect
from shadow.expressions import Expression, Kind

_TOML_PLACE = re.compile(r"(.*) \(at line (\d+), column (\d+)\)", re.DOTALL)
_TOML_END = re.compile(r"(.*) \(at end of document\)", re.DOTALL)
_PYTHON = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)")
_PATH = re.compile(r"(?:\*|[^.\s*]+)(?:\.(?:\*|[^.\s*]+))*")

SEPARATORS = frozenset({".", "~", "_", "-"})
"""What tRPC's `pathSeparator` may be."""

_EVENT_KEYS = frozenset({"entity", "key", "effect", "event", "channel", "data", "set", "when", "each", "durable"})

CODES = (
    "BAD_REQUEST",
    "UNAUTHORIZED",
    "PAYMENT_REQUIRED",
    "FORBIDDEN",
    "NOT_FOUND",
    "METHOD_NOT_SUPPORTED",
    "TIMEOUT",
    "CONFLICT",
    "PRECONDITION_FAILED",
    "PAYLOAD_TOO_LARGE",
    "UNSUPPORTED_MEDIA_TYPE",
    "UNPROCESSABLE_CONTENT",
    "TOO_MANY_REQUESTS",
    "INTERNAL_SERVER_ERROR",
)
"""The errors of tRPC with which a call can be refused."""

_BEFORE = frozenset({"input", "now", "state"})
_CALL = frozenset({"input", "output", "now"})
_ITEM_OF_STREAM = frozenset({"input", "item", "now"})


def load(path: Path) -> Contract:
    """Read a contract file; raises ContractError with all of its problems."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        hint = "name an existing file; `changeover contract draft` writes a first one"
        raise ContractError((Problem(str(path), "", 0, f"cannot be read: {error.strerror}", hint),)) from None
    except UnicodeDecodeError:
        raise ContractError((Problem(str(path), "", 0, "is not UTF-8 text"),)) from None
    return parse(text, str(path))


def parse(text: str, source: str) -> Contract:
    """Check a contract's text; `source` is the file's name in messages. Raises ContractError with all problems.

    Modules of Python rules are looked for beside the file first.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ContractError((_not_toml(str(error), text, source),)) from None
    report = Report(source, find_lines(text))
    contract = _Loader(report, document, source).contract()
    if report.problems:
        problems = sorted(dict.fromkeys(report.problems), key=lambda problem: problem.line)
        raise ContractError(tuple(problems))
    return contract


def _not_toml(message: str, text: str, source: str) -> Problem:
    if place := _TOML_PLACE.fullmatch(message):
        return Problem(source, "", int(place[2]), f"this is not TOML: {place[1]}, at column {place[3]}")
    end = _TOML_END.fullmatch(message)
    line = len(text.splitlines())
    return Problem(source, "", line, f"this is not TOML: {end[1] if end else message}, at the end of the file")


class _Loader:
    def __init__(self, report: Report, document: Mapping[str, Any], source: str) -> None:
        self._report = report
        self._document = document
        self._source = source
        self._top = Section(report, (), document)
        self._phases: dict[str, Phase] = {}
        self._entities: dict[str, Entity] = {}
        self._phase_of_entity: dict[str, str] = {}
        self._phase_of_procedure: dict[str, str] = {}

    def contract(self) -> Contract:
        top = self._top
        legacy = self._legacy(top.section("legacy") or Section(self._report, ("legacy",), {}))
        overlay = self._overlay(top.section("overlay") or Section(self._report, ("overlay",), {}))
        self._read_phases(top)
        self._read_entities(top)
        mutations = {name: self._rule(name, section) for name, section in self._named("mutation")}
        taps = {name: self._tap(name, section) for name, section in self._named("tap")}
        channels = tuple(self._channel(pattern, section) for pattern, section in self._named("channel"))
        self._check_procedures(mutations, taps)
        top.finish()
        return Contract(
            source=self._source,
            hash=hashlib.sha256(json.encode(self._document)).hexdigest(),
            legacy=legacy,
            overlay=overlay,
            phases=self._phases,
            entities=self._entities,
            mutations=mutations,
            taps=taps,
            channels=tuple(sorted(channels, key=_particular, reverse=True)),
            lines={spell(path): line for path, line in self._report.lines.items()},
        )

    def _named(self, key: str) -> list[tuple[str, Section]]:
        section = self._top.section(key)
        return [] if section is None else list(section.named_sections())

    # --- legacy, overlay, phases ------------------------------------------------------------------------------------

    def _legacy(self, section: Section) -> Legacy:
        base_path = section.text("base_path", "/trpc").rstrip("/")
        if base_path and not base_path.startswith("/"):
            section.problem("base_path", "a path begins with a slash", f'write base_path = "/{base_path}"')
        transformer = section.choice("transformer", Transformer.NONE)
        max_request = section.duration("max_request", "30s")
        separator = section.text("separator", ".")
        if separator not in SEPARATORS:
            section.problem("separator", f"{separator!r} separates nothing in tRPC", 'write ".", "~", "_" or "-"')
        probe = section.flag("probe", default=True)
        section.finish()
        return Legacy(base_path, transformer, max_request, separator, probe)

    def _overlay(self, section: Section) -> Overlay:
        overlay = Overlay(section.text("namespace", "events"), section.choice("answered_by", Answerer.PROXY))
        section.finish()
        return overlay

    def _read_phases(self, top: Section) -> None:
        for name, section in self._named("phase"):
            phase = Phase(
                name,
                section.texts("entities"),
                section.texts("procedures"),
                section.choice("ordering", Ordering.STRICT),
                section.choice("on_log_failure", OnLogFailure.FAIL_CLOSED),
            )
            self._phases[name] = phase
            self._claim(section, "entities", phase.entities, name, self._phase_of_entity)
            self._claim(section, "procedures", phase.procedures, name, self._phase_of_procedure)
            section.finish()
        if not self._phases:
            hint = 'write [phase.all] with entities = ["…"]'
            top.problem(None, "there is no phase, so nothing can be cut over", hint)

    def _claim(self, section: Section, key: str, names: tuple[str, ...], phase: str, owners: dict[str, str]) -> None:
        for name in names:
            owner = owners.setdefault(name, phase)
            if owner != phase:
                section.problem(key, f"{name!r} belongs to phase {owner!r} already", "name it in one phase only")

    # --- entities ---------------------------------------------------------------------------------------------------

    def _read_entities(self, top: Section) -> None:
        for name, section in self._named("entity"):
            self._entities[name] = self._entity(name, section)
            if name not in self._phase_of_entity:
                section.problem(None, "belongs to no phase", f'add "{name}" to the entities of a phase')
        for phase in self._phases.values():
            for name in phase.entities:
                if name not in self._entities:
                    path = ("phase", phase.name, "entities")
                    hint = _closest(name, self._entities) or f"write [entity.{name}]"
                    self._report.add(path, f"there is no entity {name!r}", hint)

    def _entity(self, name: str, section: Section) -> Entity:
        fields = self._fields(section)
        entity = Entity(
            name=name,
            phase=self._phase_of_entity.get(name, ""),
            key=section.expression("key", frozenset({"item", "name"}), Kind.KEY),
            fields=fields,
            list=self._list(section.section("list"), fields),
            get=self._get(section.section("get")),
            masks=tuple(self._mask(part) for part in section.sections("mask")),
            secret=self._secret(section),
            ignore=tuple(self._ignore(part) for part in section.sections("ignore")),
            blank=frozenset(self._field_names(section, "blank", fields)),
        )
        section.finish()
        return entity

    def _fields(self, section: Section) -> dict[str, Expression | None]:
        if not isinstance(section.raw("fields"), dict):
            names = section.texts("fields", None)
            return dict.fromkeys(names)
        table = section.section("fields")
        if table is None:
            return {}
        names = tuple(section.raw("fields"))
        fields = {field: table.expression(field, frozenset({"item", "name"}), Kind.ANY) for field in names}
        return dict(fields)

    def _field_names(self, section: Section, key: str, fields: Mapping[str, object]) -> tuple[str, ...]:
        names = section.texts(key)
        for name in names:
            if fields and name not in fields:
                section.problem(key, f"{name!r} is no field of this entity", _closest(name, fields))
        return names

    def _list(self, section: Section | None, fields: Mapping[str, object]) -> ListQuery | None:
        if section is None:
            return None
        query = ListQuery(
            where=section.where,
            query=section.text("query"),
            input=section.expression("input", frozenset({"cursor"}), Kind.ANY, "{}"),
            items=section.expression("items", frozenset({"output"}), Kind.ANY, "output"),
            cursor=section.optional_expression("cursor", frozenset({"output"}), Kind.ANY),
            cursor_field=section.text("cursor_field", "cursor"),
            lacks=frozenset(self._field_names(section, "lacks", fields)),
        )
        section.finish()
        return query

    def _get(self, section: Section | None) -> GetQuery | None:
        if section is None:
            return None
        query = GetQuery(
            where=section.where,
            query=section.text("query"),
            input=section.expression("input", frozenset({"key"}), Kind.ANY, "{}"),
            item=section.expression("item", frozenset({"output", "key"}), Kind.ANY, "output"),
        )
        section.finish()
        return query

    def _mask(self, section: Section) -> Mask:
        mask = Mask(section.text("field"), section.whole("keep", 0), section.text("text", "***"))
        section.finish()
        return mask

    def _ignore(self, section: Section) -> Ignore:
        raw = section.raw("expires")
        expires = raw if type(raw) is date else _date(raw)
        if expires is None:
            section.problem("expires", "the last day is missing", "write expires = 2027-01-31")
        rule = Ignore(section.text("field"), section.text("owner"), section.text("reason"), expires or date.min)
        section.finish()
        return rule

    def _secret(self, section: Section) -> tuple[str, ...]:
        paths = section.texts("secret")
        for path in paths:
            if not _PATH.fullmatch(path):
                hint = 'write names with dots, and * for every element: "providers.*.apiKey"'
                section.problem("secret", f"{path!r} is no path", hint)
        return paths

    # --- mutations and taps -----------------------------------------------------------------------------------------

    def _rule(self, procedure: str, section: Section) -> Rule:
        events = self._events(procedure, section, _CALL)
        rule = Rule(
            procedure=procedure,
            phase=self._phase(procedure, section, events),
            success=section.optional_expression("success", frozenset({"input", "output"}), Kind.BOOL),
            events=events,
            secret=self._secret(section),
            python=self._python(section),
            answers=self._answers(procedure, section),
            find=self._find(procedure, section),
        )
        section.finish()
        return rule

    def _find(self, procedure: str, section: Section) -> FindRule | None:
        table = section.section("find")
        if table is None:
            return None
        item = frozenset({"input", "item", "since"})
        rule = FindRule(
            procedure=procedure,
            where=table.where,
            query=table.text("query"),
            input=table.expression("input", frozenset({"input"}), Kind.ANY, "{}"),
            items=table.expression("items", frozenset({"input", "output"}), Kind.ITEMS, "output"),
            match=table.expression("match", item, Kind.BOOL),
            output=table.expression("output", item, Kind.ANY, "item"),
        )
        table.finish()
        return rule

    def _answers(self, procedure: str, section: Section) -> AnswerRule | None:
        table = section.section("answer")
        if table is None:
            return None
        reject = []
        for part in table.sections("reject"):
            when = part.expression("when", _BEFORE, Kind.BOOL)
            code = part.text("code")
            if code and code not in CODES:
                part.problem("code", f"{code!r} is no error code of tRPC", _closest(code, CODES))
            reject.append(RejectRule(when, Rejection(code, part.text("message"))))
            part.finish()
        rule = AnswerRule(
            procedure=procedure,
            where=table.where,
            reject=tuple(reject),
            id=table.optional_expression("id", _BEFORE | {"id"}, Kind.TEXT),
            output=table.optional_expression("output", _BEFORE | {"id"}, Kind.ANY),
            varies=table.texts("varies"),
        )
        table.finish()
        return rule

    def _tap(self, procedure: str, section: Section) -> Tap:
        events = self._events(procedure, section, _ITEM_OF_STREAM)
        tap = Tap(
            procedure=procedure,
            phase=self._phase(procedure, section, events),
            events=events,
            secret=self._secret(section),
            python=self._python(section),
        )
        section.finish()
        return tap

    def _events(self, procedure: str, section: Section, variables: frozenset[str]) -> tuple[EventRule, ...]:
        section.know(_EVENT_KEYS)
        if "events" in section:
            return tuple(self._event(procedure, part, variables) for part in section.sections("events", section))
        if "python" in section and "event" not in section:
            section.know(frozenset({"events"}))
            return ()
        section.know(frozenset({"events"}))
        return (self._event(procedure, section, variables, alone=True),)

    def _event(self, procedure: str, section: Section, variables: frozenset[str], *, alone: bool = False) -> EventRule:
        entity = self._entity_named(section)
        each = section.optional_expression("each", variables | {"known"}, Kind.ITEMS)
        named = variables | {"item"} if each is not None else variables
        known = named | {"state", "key"} if "entity" in section else named
        effect = section.choice("effect", Effect.NONE)
        rule = EventRule(
            procedure=procedure,
            where=section.where,
            entity=entity,
            effect=effect,
            key=section.optional_expression("key", named, Kind.KEY),
            type=section.text("event"),
            channel=section.expression("channel", known, Kind.TEXT),
            data=section.expression("data", known, Kind.OBJECT),
            change=section.optional_expression("set", known, Kind.OBJECT),
            when=section.optional_expression("when", known, Kind.BOOL),
            each=each,
            durable=section.flag("durable", default=True),
        )
        self._check_event(section, rule)
        if not alone:
            section.finish()
        return rule

    def _check_event(self, section: Section, rule: EventRule) -> None:
        if rule.entity is not None:
            if rule.key is None:
                section.problem("key", "is missing: it says which entity is meant", 'write key = "input.…"')
            if "effect" not in section:
                words = ", ".join(effect.value for effect in Effect)
                section.problem("effect", "is missing: it says what becomes of the entity", f"write one of: {words}")
        elif rule.effect is not Effect.NONE and section.raw("entity") is None:
            section.problem("effect", "there is no entity for it to have an effect on", 'write entity = "…"')
        if not rule.durable and rule.effect is not Effect.NONE:
            section.problem("durable", "an event that changes state has to be kept", "write durable = true")

    def _entity_named(self, section: Section) -> Entity | None:
        if "entity" not in section:
            return None
        name = section.text("entity")
        if name and name not in self._entities:
            hint = _closest(name, self._entities) or f"write [entity.{name}]"
            section.problem("entity", f"there is no entity {name!r}", hint)
        return self._entities.get(name)

    def _phase(self, procedure: str, section: Section, events: tuple[EventRule, ...]) -> str:
        """Return the one phase that the procedure's entities, or its own naming in a phase, put it in."""
        phases = dict.fromkeys(event.entity.phase for event in events if event.entity and event.entity.phase)
        own = self._entities.get(str(section.raw("entity")))
        candidates = [self._phase_of_procedure.get(procedure), own.phase if own else None, *phases]
        named = [phase for phase in dict.fromkeys(candidates) if phase]
        if len(named) > 1 and procedure not in self._phase_of_procedure:
            hint = f'add "{procedure}" to the procedures of the phase with which it is cut over'
            section.problem(None, f"its events belong to the phases {' and '.join(named)}", hint)
        if not named and not self._broken_entity(section):
            hint = f'write entity = "…", or add "{procedure}" to the procedures of a phase'
            section.problem(None, "belongs to no phase", hint)
        return named[0] if named else ""

    def _broken_entity(self, section: Section) -> bool:
        """Tell whether the phase is unknown only because of a mistake that is told already."""
        return not self._phases or not set(self._entities) <= set(self._phase_of_entity) or "entity" in section

    def _python(self, section: Section) -> PythonRule | None:
        if "python" not in section:
            section.know(frozenset({"python"}))
            return None
        name = section.text("python")
        match = _PYTHON.fullmatch(name)
        if match is None:
            section.problem("python", f"{name!r} names no function", 'write python = "module:function"')
            return None
        try:
            function = getattr(self._module(match[1]), match[2])
        except Exception as error:  # noqa: BLE001 - somebody else's module runs here
            section.problem(
                "python",
                f"cannot be loaded: {type(error).__name__}: {error}",
                "the module is looked for beside the contract first",
            )
            return None
        if not callable(function):
            section.problem("python", f"{name!r} is no function")
            return None
        return function  # type: ignore[no-any-return]

    def _module(self, name: str) -> Any:
        beside = str(Path(self._source).resolve().parent)
        sys.path.insert(0, beside)
        try:
            return importlib.import_module(name)
        finally:
            sys.path.remove(beside)

    def _check_procedures(self, mutations: Mapping[str, Rule], taps: Mapping[str, Tap]) -> None:
        for procedure in mutations.keys() & taps.keys():
            self._report.add(("tap", procedure), "is a mutation too", "a procedure is one or the other")
        known = [*mutations, *taps]
        for procedure, phase in self._phase_of_procedure.items():
            if procedure not in known:
                hint = _closest(procedure, known) or f'write [mutation."{procedure}"]'
                self._report.add(("phase", phase, "procedures"), f"there is no rule for {procedure!r}", hint)

    # --- channels ---------------------------------------------------------------------------------------------------

    def _channel(self, pattern: str, section: Section) -> Channel:
        if "*" in pattern[:-1]:
            section.problem(None, "a pattern has no * but at its end")
        channel = Channel(
            pattern,
            self._visibility(section),
            self._retention(section.section("retention")),
            tuple(self._publishable(part) for part in section.sections("publish")),
        )
        section.finish()
        return channel

    def _visibility(self, section: Section) -> Visibility:
        value = section.raw("see")
        if value is None or value == "open":
            return Open()
        if value == "token":
            return Token()
        if not isinstance(value, dict):
            hint = 'write "open", "token" or { query = "…", input = "…" }'
            section.problem("see", f"{value!r} is not possible here", hint)
            return Open()
        part = section.section("see")
        if part is None:
            return Open()
        ask = Ask(
            where=part.where,
            query=part.text("query"),
            input=part.expression("input", frozenset({"channel", "suffix"}), Kind.ANY, "{}"),
            allow=part.expression("allow", frozenset({"output"}), Kind.BOOL, "output != null"),
        )
        part.finish()
        return ask

    def _retention(self, section: Section | None) -> Retention:
        if section is None:
            return Retention()
        age = section.duration("age", "30d") if "age" in section else None
        count = section.whole("count") if "count" in section else None
        section.know(frozenset({"age", "count"}))
        section.finish()
        return Retention(age, count)

    def _publishable(self, section: Section) -> Publishable:
        rule = Publishable(
            section.text("event"),
            frozenset(section.texts("required")),
            frozenset(section.texts("optional")),
            section.flag("durable", default=True),
        )
        section.finish()
        return rule


def _particular(channel: Channel) -> tuple[bool, int]:
    return not channel.pattern.endswith("*"), len(channel.pattern)


def _closest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def _date(raw: Any) -> date | None:
    try:
        return date.fromisoformat(raw) if isinstance(raw, str) else None
    except ValueError:
        return None
