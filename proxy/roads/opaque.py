"""The road of forms and bytes: an input that is no JSON streams through, and is told by its media type and size."""

from __future__ import annotations

from collections.abc import AsyncIterator

from proxy.forward import ClientGone, Receive, Scope
from proxy.framing import header
from shadow.json import Json


class OpaqueBody:
    """A request's body on its way, in bounded memory; `input` describes it as far as it is known by now."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self._media_type = header(scope["headers"], b"content-type").partition(b";")[0].strip().lower()
        declared = header(scope["headers"], b"content-length")
        self._declared = int(declared) if declared.isdigit() else None
        self._passed: int | None = None

    @property
    def input(self) -> Json:
        """The media type, and the size in bytes: the declared one, or once all has passed that; null if unknown."""
        size = self._declared if self._passed is None else self._passed
        return {"contentType": self._media_type.decode("latin-1"), "size": size}

    async def pieces(self) -> AsyncIterator[bytes]:
        """Iterate over the body; raises `ClientGone` when it breaks off."""
        size = 0
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                raise ClientGone("the client went away while it was sending")
            piece: bytes = message.get("body", b"")
            size += len(piece)
            yield piece
            if not message.get("more_body"):
                self._passed = size
                return
