"""Messages leave in the order in which they came, each when it is ready."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from proxy.roads.lane import Lane
from proxy.websocket import Message
from shadow.tasks import Tasks


@given(st.lists(st.none() | st.integers(0, 5), max_size=12))
def test_order_is_kept_whatever_becomes_ready_first(delays: list[int | None]) -> None:
    """None stands for a message that is ready at once, a number for one that becomes ready after so many others."""

    async def run() -> tuple[list[Message], list[Message]]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            await asyncio.sleep(0)
            sent.append(message)

        async def ready(message: Message, turns: int) -> Message | None:
            for _ in range(turns):
                await asyncio.sleep(0)
            return None if turns == 3 else message

        tasks = Tasks()
        lane = Lane(send, tasks, name="test")
        for number, delay in enumerate(delays):
            text = str(number)
            await lane.put(text if delay is None else tasks.spawn(ready(text, delay), name=text), len(text))
        await lane.left()
        assert lane.idle
        return sent, [str(number) for number, delay in enumerate(delays) if delay != 3]

    sent, expected = asyncio.run(run())
    assert sent == expected


async def test_a_message_whose_work_fails_is_lost_alone() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def failing() -> Message | None:
        raise ZeroDivisionError

    lane = Lane(send, Tasks(), name="test")
    await lane.put("one", 3)
    await lane.put(failing(), 3)
    await lane.put(b"three", 3)
    await lane.left()

    assert sent == ["one", b"three"]
