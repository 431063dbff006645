"""Channels: every client sees what happens, with the client that it already has."""

from proxy.subscriptions.routes import Subscriptions

__all__ = ["Subscriptions"]
