"""Where the legacy listens: http://, https:// or a Unix socket, read from one URL."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from shadow.errors import Mendable


class BadUrl(Mendable, ValueError):
    """The legacy's URL cannot be used; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class Address:
    """One place to connect to: a host and port, or the path of a Unix socket; with TLS or without."""

    host: str
    port: int
    path: str | None = None
    tls: bool = False

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read `http://host:port`, `https://host` or `unix:///run/api.sock`; raises `BadUrl`."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise BadUrl(f"the legacy's URL {url!r} cannot be read: {error}") from None
        if parts.scheme in ("unix", "http+unix"):
            path = unquote(parts.netloc) + unquote(parts.path)
            if not path.startswith("/"):
                raise BadUrl(f"the legacy's URL {url!r} needs an absolute path, as in unix:///run/api.sock")
            return cls("localhost", 0, path)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadUrl(f"the legacy's URL {url!r} must look like http://host:port, https://host or unix:///path")
        if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
            raise BadUrl(f"the legacy's URL {url!r} must end after the port: paths are passed on as clients send them")
        tls = parts.scheme == "https"
        return cls(parts.hostname, port or (443 if tls else 80), None, tls)

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context that checks the legacy's certificate against `ca_file`, or against the system's authorities."""
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context
