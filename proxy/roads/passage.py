"""What every road to the legacy needs, whatever travels on it."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.forward import Forwarding, Refuse
from proxy.mirror import Mirror
from proxy.trpc.transformers import Transformer
from proxy.upstream import Upstream


@dataclass(frozen=True, slots=True)
class Passage:
    """The way from one data port to its legacy."""

    mirror: Mirror
    upstream: Upstream
    transformer: Transformer
    forwarding: Forwarding
    refuse: Refuse
