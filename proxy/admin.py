"""The admin port: health, metrics, status and stages. It never shares a port with the data plane.

`GET /health` answers while the process lives, `GET /ready` while the log can be written, `GET /metrics` in the
Prometheus text format, `GET /status` and `GET /stages` as JSON, `POST /stages/{phase}` changes a stage,
`POST /events` appends events for a command that found the log in this process's hands, `POST /publish` puts an event on
the stream as far as the contract lets clients do so.
Anything that is refused is answered as `{"error": sentence}`.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from shadow import json
from shadow.drafts import expected_from_json, from_json
from shadow.errors import Mendable, PositionConflict
from shadow.events import Draft, EntityKey
from shadow.json import Json


class Control(Protocol):
    """What the admin port can do to a running proxy."""

    def render_metrics(self) -> bytes:
        """Return the metrics in the Prometheus text format."""

    def ready(self) -> bool:
        """Tell whether the log can be written."""

    async def status(self) -> Json:
        """Return everything `changeover status` shows."""

    async def standings(self) -> Json:
        """Return each phase's stage and epoch."""

    async def set_stage(self, phase: str, stage: str, *, reason: str, actor: str | None) -> Json:
        """Change a phase's stage; raises `Mendable` when it is refused."""

    async def publish(self, event: Json) -> Json:
        """Put an event on the stream as clients may; raises `PositionConflict` and other kinds of `Mendable`."""

    async def append(self, drafts: Sequence[Draft], expected: Mapping[EntityKey, int]) -> int:
        """Append events and return the last one's position; raises `PositionConflict` and other kinds of `Mendable`."""


@dataclass(frozen=True, slots=True)
class TokenGate:
    """Lets a request through when it carries the admin token; health is open to everyone."""

    app: ASGIApp
    token: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 unless the request may pass."""
        if scope["type"] == "http" and scope["path"] != "/health" and not self._knows(scope):
            refusal = _json({"error": "the admin token is missing or wrong; send it as Authorization: Bearer …"}, 401)
            await refusal(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(given, b"Bearer " + self.token.encode())


def admin_app(control: Control, *, token: str | None = None) -> ASGIApp:
    """Return the admin port's application; with a token, everything but `/health` demands it."""

    async def health(_: Request) -> Response:
        return _json({"alive": True})

    async def ready(_: Request) -> Response:
        able = control.ready()
        return _json({"ready": able}, 200 if able else 503)

    async def metrics(_: Request) -> Response:
        return Response(control.render_metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def status(_: Request) -> Response:
        return _json(await control.status())

    async def stages(_: Request) -> Response:
        return _json(await control.standings())

    async def set_stage(request: Request) -> Response:
        body = await _object(request)
        stage, reason = body.get("stage"), body.get("reason")
        if not isinstance(stage, str) or not isinstance(reason, str) or not reason.strip():
            return _json({"error": 'expected {"stage": …, "reason": …}; a stage change needs a reason'}, 400)
        actor = body.get("actor")
        return _json(
            await control.set_stage(request.path_params["phase"], stage, reason=reason, actor=actor and str(actor))
        )

    app: ASGIApp = Starlette(
        routes=[
            Route("/health", health),
            Route("/ready", ready),
            Route("/metrics", metrics),
            Route("/status", status),
            Route("/stages", stages),
            Route("/stages/{phase}", _mended(set_stage), methods=["POST"]),
            Route("/events", _mended(_appending(control)), methods=["POST"]),
            Route("/publish", _mended(_publishing(control)), methods=["POST"]),
        ]
    )
    return TokenGate(app, token) if token else app


def _appending(control: Control) -> Callable[[Request], Awaitable[Response]]:
    async def append(request: Request) -> Response:
        body = await _object(request)
        try:
            drafts = [from_json(event) for event in body.get("events") or ()]
            expected = expected_from_json(body.get("expected"))
        except ValueError as error:
            return _json({"error": f'expected {{"events": […], "expected": […]}}: {error}'}, 400)
        try:
            return _json({"position": await control.append(drafts, expected)})
        except PositionConflict as conflict:
            return _json({"error": str(conflict)}, 412)

    return append


def _publishing(control: Control) -> Callable[[Request], Awaitable[Response]]:
    async def publish(request: Request) -> Response:
        return _json(await control.publish(await _object(request)), 201)

    return publish


def _mended(
    endpoint: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """Answer an expected refusal with 409 and its sentence."""

    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Mendable as error:
            return _json({"error": str(error)}, 409)

    return answered


async def _object(request: Request) -> dict[str, Json]:
    try:
        body = json.decode(await request.body() or b"{}")
    except json.JsonError:
        return {}
    return body if isinstance(body, dict) else {}


def _json(value: Json, status: int = 200) -> Response:
    return Response(json.encode(value), status_code=status, media_type="application/json")
