"""Connections to the legacy: HTTP/1.1, kept alive, nothing ever sent twice."""

from proxy.upstream.address import Address, BadUrl
from proxy.upstream.answer import Answer
from proxy.upstream.errors import Lost, NotSent, UpstreamError
from proxy.upstream.pool import Limits, Upstream

__all__ = ["Address", "Answer", "BadUrl", "Limits", "Lost", "NotSent", "Upstream", "UpstreamError"]
