"""The road of streamed batches: the calls of one POST are answered line by line, in the order in which they end.

The bytes pass exactly as the legacy sent them. A line that settles a call waits until that call's event is durable,
and what comes after it waits behind it; what comes before it does not. Meanwhile the legacy's next lines are read
already, so that those that came together are settled together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from proxy.forward import Scope, Send, outgoing_head, send_whole
from proxy.judging import Asked, Call
from proxy.mirror import Attempt
from proxy.roads.encodings import Held, Undecodable, unpacking
from proxy.roads.json import BIGGEST_ANSWER, readable_answer, settle_whole
from proxy.roads.outbox import Outbox
from proxy.roads.passage import Passage
from proxy.trpc.streams import CUT_SHORT, Decoded, StreamDecoder, StreamKind, stream_decoder
from proxy.upstream import Answer, Lost, NotSent, UpstreamError
from shadow.errors import LogUnavailable

UNSENT = 256 * 1024
"""Bytes that wait for a slow client at most, once all outcomes are known."""


async def mirror_stream(
    passage: Passage,
    scope: Scope,
    send: Send,
    calls: Sequence[Call],
    asked: Asked,
    body: bytes,
    *,
    count: int,
    kind: StreamKind,
) -> None:
    """Forward one request once and pass its answer on as the outcomes in it become durable.

    `count` is the number of calls in the request, `calls` those of them that are mirrored. Raises `Truncated` when
    the answer breaks off: the calls that it had not settled are in doubt then, and the client has all that came.
    """
    upstream = passage.upstream
    head = readable_answer(outgoing_head(scope, passage.forwarding))
    try:
        async with passage.mirror.attempt(calls, asked) as attempt:
            try:
                answer = await upstream.request(head, body)
            except NotSent as error:
                await attempt.not_sent(error.code)
                raise
            except Lost as error:
                await attempt.doubt(error.code)
                raise
            decoder = stream_decoder(kind, count, passage.transformer, status=answer.status)
            outbox = Outbox(send, answer)
            unsettled, patience = {call.index for call in calls}, upstream.limits.response_timeout
            reading = _Reading(answer, attempt, decoder, unsettled, outbox, patience)
            try:
                await reading.until_settled()
            except LogUnavailable:
                answer.close()
                if outbox.started:
                    await outbox.cut("an outcome could not be recorded")
                raise
    except UpstreamError as error:
        await send_whole(send, *passage.refuse(scope, error.status, str(error)))
        return
    await reading.pass_the_rest()


class _Reading:
    """One answer, read until every mirrored call in it is settled, then passed on unread."""

    def __init__(
        self,
        answer: Answer,
        attempt: Attempt,
        decoder: StreamDecoder,
        unsettled: set[int],
        outbox: Outbox,
        patience: float,
    ) -> None:
        self._answer = answer
        self._attempt = attempt
        self._decoder = decoder
        self._unsettled = unsettled
        self._outbox = outbox
        self._broken_off: Lost | None = None
        self._patience = patience
        self._give_up_at = asyncio.get_running_loop().time() + patience

    async def until_settled(self) -> None:
        """Return when every mirrored call has a durable outcome; what may go to the client by then is on its way."""
        held: Held | None = None
        try:
            held = Held(unpacking(self._answer.headers))
            while self._unsettled and (piece := await self._next()):
                await self._take(held, piece)
                if self._decoder.broken:
                    await self._give_up("unreadable_answer")
                elif held.size > BIGGEST_ANSWER:
                    await self._give_up("answer_too_large")
                await self._outbox.room(BIGGEST_ANSWER)
            await self._take_end()
        except Lost as error:
            self._broken_off = error
            await self._give_up(error.code)
        except Undecodable:
            await self._give_up("undecodable_answer")
        if held is not None:
            self._outbox.put(held.rest())

    async def _next(self) -> bytes:
        """Wait for more of the answer; raises `Lost` when nothing but pings comes for too long."""
        try:
            async with asyncio.timeout_at(self._give_up_at):
                piece = await self._answer.arrived()
        except TimeoutError:
            self._answer.close()
            raise Lost("response_timeout", "the legacy did not go on with its answer in time") from None
        if not piece.isspace():
            self._give_up_at = asyncio.get_running_loop().time() + self._patience
        return piece

    async def pass_the_rest(self) -> None:
        """Pass on what is left, no faster than the client takes it."""
        try:
            async for piece in self._answer:
                self._outbox.put(piece)
                await self._outbox.room(UNSENT)
        except Lost as error:
            self._broken_off = self._broken_off or error
        finally:
            self._answer.close()
        if self._broken_off is not None:
            await self._outbox.cut(str(self._broken_off))
        await self._outbox.finish()

    async def _take(self, held: Held, piece: bytes) -> None:
        text = held.take(piece)
        decoded = [each for each in self._decoder.feed(text) if each.index in self._unsettled]
        if decoded:
            self._outbox.put(held.release(self._start_of_line(text, decoded[0].end_offset)))
            await self._settle(decoded)
        if not self._decoder.broken:
            self._outbox.put(held.release(self._decoder.cleared))

    async def _take_end(self) -> None:
        streamed = self._decoder.streamed
        decoded = self._decoder.close()
        if not streamed and self._unsettled:
            await settle_whole(self._attempt, [each.outcome for each in decoded], self._answer.status)
            self._unsettled.clear()
        await self._settle([each for each in decoded if each.outcome != CUT_SHORT])
        if self._unsettled:
            await self._give_up("stream_ended")

    def _start_of_line(self, text: bytes, end: int) -> int:
        """Return where the line begins that ends at `end`; 0 when it began before `text`, the newest bytes."""
        base = self._decoder.fed - len(text)
        before = text.rfind(b"\n", 0, end - 1 - base)
        return base + before + 1 if before >= 0 else 0

    async def _settle(self, decoded: Sequence[Decoded]) -> None:
        mine = {each.index: each.outcome for each in decoded if each.index in self._unsettled}
        if mine:
            await self._attempt.settle(mine)
            self._unsettled.difference_update(mine)

    async def _give_up(self, reason: str) -> None:
        """Call everything that is not settled in doubt; nothing has to be held any more."""
        await self._attempt.doubt(reason)
        self._unsettled.clear()
