"""Many readers of one stream of events, and who publishes to them: one process, one loop over its sockets.

`python -m bench.readers` takes what to do as one JSON object and prints what it saw as another. It knows nothing of
either server but what a publication and a subscription look like on the wire; the events carry their numbers.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

NUMBER = re.compile(rb"after change (\d+)")


class Sockets:
    """Sockets, and what is to be done when something has come in on one."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._opened: dict[int, tuple[socket.socket, Callable[[bytes], None]]] = {}

    def add(self, opened: socket.socket, arrived: Callable[[bytes], None]) -> None:
        """Call `arrived` with whatever comes in."""
        opened.setblocking(False)
        self._opened[opened.fileno()] = opened, arrived
        self._poll.register(opened, select.EPOLLIN)

    def take(self, seconds: float) -> None:
        """Wait until something comes in anywhere, and take it."""
        for number, _ in self._poll.poll(seconds):
            opened, arrived = self._opened[number]
            data = opened.recv(1 << 16)
            if not data:
                raise RuntimeError("the server closed a connection")
            arrived(data)


class Readers:
    """What all readers together got."""

    def __init__(self, sockets: Sockets, port: int, target: str, count: int) -> None:
        self.deliveries = 0
        """Events, times the readers that got them."""
        self.seen: list[tuple[int, int]] = []
        """The number and the time (nanoseconds) of each delivery, while `watching`."""
        self.watching = True
        request = f"GET {target} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n".encode()
        for _ in range(count):
            opened = socket.create_connection(("127.0.0.1", port))
            opened.sendall(request)
            head = opened.recv(4096)
            if not head.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"a reader was refused: {head[:200]!r}")
            sockets.add(opened, self._arrived)

    def _arrived(self, data: bytes) -> None:
        found = NUMBER.findall(data)
        self.deliveries += len(found)
        if self.watching:
            now = time.monotonic_ns()
            self.seen += [(int(each), now) for each in found]


class Publisher:
    """A connection that publishes one event after the other."""

    def __init__(self, sockets: Sockets, port: int, request: str, first: int) -> None:
        self.waiting = False
        """Whether the last event was not answered yet."""
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self._next = first
        sockets.add(self._socket, self._arrived)

    def publish(self) -> tuple[int, int]:
        """Send the next event; returns its number and when it was sent."""
        head, _, body = self._request.replace("NUMBER", str(self._next)).partition("\r\n\r\n")
        self._next += 1
        self.waiting = True
        now = time.monotonic_ns()
        self._socket.sendall(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        return self._next - 1, now

    def _arrived(self, answer: bytes) -> None:
        self.waiting = False
        if b" 20" not in answer[:15]:
            raise RuntimeError(f"a publication was answered with {answer[:200]!r}")


def one_by_one(sockets: Sockets, readers: Readers, publisher: Publisher, count: int, seconds: float) -> dict[int, int]:
    """Publish the next event when everybody has the one before; returns when each was sent."""
    sent: dict[int, int] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        goal = readers.deliveries + count
        number, now = publisher.publish()
        sent[number] = now
        patience = time.monotonic() + 10
        while publisher.waiting or readers.deliveries < goal:
            sockets.take(0.1)
            if time.monotonic() > patience:
                raise RuntimeError(f"{goal - readers.deliveries} of {count} deliveries did not come within 10 s")
    return sent


def as_fast_as_it_goes(sockets: Sockets, readers: Readers, publishers: list[Publisher], seconds: float) -> float:
    """Publish on every connection as soon as it has its answer; returns deliveries a second."""
    before, start = readers.deliveries, time.monotonic()
    while time.monotonic() < start + seconds:
        for publisher in publishers:
            if not publisher.waiting:
                publisher.publish()
        sockets.take(0.1)
    return (readers.deliveries - before) / (time.monotonic() - start)


def main() -> None:
    """Do what the one argument says."""
    wanted: dict[str, Any] = json.loads(sys.argv[1])
    count, seconds, port, request = wanted["readers"], wanted["seconds"], wanted["publish_port"], wanted["request"]
    sockets = Sockets()
    readers = Readers(sockets, wanted["subscribe_port"], wanted["target"], count)
    sockets.take(0.5)
    sent = one_by_one(sockets, readers, Publisher(sockets, port, request, 1), count, seconds)
    readers.watching = False
    publishers = [
        Publisher(sockets, port, request, number * 1_000_000) for number in range(1, wanted["publishers"] + 1)
    ]
    rate = as_fast_as_it_goes(sockets, readers, publishers, seconds)
    print(json.dumps({"sent": sent, "seen": readers.seen, "rate": rate}))


if __name__ == "__main__":
    main()
