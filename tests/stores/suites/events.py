"""Events as a suite sees them: what a store's changes left to be published, in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from google.protobuf.message import Message


@dataclass(frozen=True, slots=True)
class Event:
    """One event that was committed with a change."""

    topic: str
    """Where it goes."""
    key: str
    """What orders it among others."""
    message: Message
    """The event."""


Events: TypeAlias = Callable[[], Awaitable[list[Event]]]
"""All events so far, the oldest first."""
