"""Faults at a port, put there from outside: an adapter is wrapped, and neither it nor its callers know.

The wrapper is made from the port itself, a Protocol or a class, so that a new method is covered without a word here.
`Faults` says what goes wrong, and may be changed while the wrapper is in use:

    faults = Faults()
    store = faulty(TweetStore, store, faults)
    faults.always(HANGS, "create")          # until it is cleared
    faults.next(TOLD_IT_TIMED_OUT)          # the next call of any method, once

What a fault does is what stores and networks do: they refuse, they hang, they are late, they take a part of a batch,
and they carry a call out and lose the answer. `Replayed` does to the bus what its contract allows: events come twice,
and old ones once more after newer ones.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from mesh.bus.base import Bus, Message, Subscription, SubscriptionOptions
from mesh.errors import DeadlineExceeded, Unavailable

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Fault:
    """What becomes of one call."""

    error: type[Exception] | None = None
    """What its caller is told; nothing when None."""
    done: bool = False
    """Whether the call is carried out although its caller is told otherwise."""
    late_s: float = 0.0
    """Seconds before anything."""
    hangs: bool = False
    """Whether it does nothing until its caller gives up."""
    part: int | None = None
    """Of a batch, or of a stream, this many are carried out."""


REFUSES = Fault(Unavailable)
"""Nothing is done, and the caller is told so."""
TOLD_IT_TIMED_OUT = Fault(DeadlineExceeded, done=True)
"""Everything is done, and the caller is told that it took too long."""
LOSES_THE_ANSWER = Fault(Unavailable, done=True)
"""Everything is done, and the caller is told that nobody is there."""
HANGS = Fault(hangs=True)
"""Nothing is done, and the caller is told nothing."""


def takes(part: int) -> Fault:
    """Of a batch or a stream this many are done; then nobody is there."""
    return Fault(Unavailable, done=True, part=part)


def late(seconds: float) -> Fault:
    """Everything is done, later."""
    return Fault(late_s=seconds)


class Faults:
    """What goes wrong at one port."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        """Names of the methods that were called, in order."""
        self.hanging = asyncio.Event()
        """Set when a call begins to hang."""
        self._once: deque[tuple[Fault, frozenset[str]]] = deque()
        self._always: list[tuple[Fault, frozenset[str]]] = []

    def next(self, fault: Fault, *methods: str, times: int = 1) -> None:
        """The next calls of these methods, or of any, go wrong."""
        self._once.extend([(fault, frozenset(methods))] * times)

    def always(self, fault: Fault, *methods: str) -> None:
        """All calls of these methods, or of any, go wrong from now on."""
        self._always.append((fault, frozenset(methods)))

    def clear(self) -> None:
        """All is well again; what hangs goes on hanging."""
        self._once.clear()
        self._always.clear()
        self.hanging.clear()

    def count(self, *methods: str) -> int:
        """How often these methods were called."""
        return sum(name in methods for name in self.calls)

    def called(self, method: str) -> Fault | None:
        """Notes a call; what becomes of it."""
        self.calls.append(method)
        for place, (fault, methods) in enumerate(self._once):
            if not methods or method in methods:
                del self._once[place]
                return fault
        return next((fault for fault, methods in self._always if not methods or method in methods), None)

    async def before(self, fault: Fault) -> None:
        """What comes before the work. Raises what is told instead of it."""
        if fault.late_s:
            await asyncio.sleep(fault.late_s)
        if fault.hangs:
            self.hanging.set()
            await asyncio.Event().wait()
        if fault.error is not None and not fault.done:
            raise fault.error("injected before the work")


def methods(port: type) -> list[str]:
    """What a port asks of its adapters that can fail: coroutines and streams, inherited ones too."""
    members = {name: member for base in reversed(port.__mro__) for name, member in vars(base).items()}
    return sorted(name for name, member in members.items() if not name.startswith("_") and _can_fail(member))


def _can_fail(member: object) -> bool:
    return inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)


def faulty(port: type[P], adapter: P, faults: Faults) -> P:
    """An adapter of a port, as those see it whose calls go wrong."""
    return cast("P", _Faulty(port, adapter, faults))


class _Faulty:
    def __init__(self, port: type, adapter: object, faults: Faults) -> None:
        self._adapter = adapter
        for name in methods(port):
            method = getattr(adapter, name)
            make = _stream if inspect.isasyncgenfunction(method) else _call
            setattr(self, name, make(name, method, faults))

    def __getattr__(self, name: str) -> object:
        """What cannot fail is the adapter's own."""
        return getattr(self._adapter, name)


def _call(name: str, method: Callable[..., Awaitable[Any]], faults: Faults) -> Callable[..., Awaitable[Any]]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        fault = faults.called(name)
        if fault is None:
            return await method(*args, **kwargs)
        await faults.before(fault)
        if fault.part is not None:
            args = tuple(one[: fault.part] if _is_batch(one) else one for one in args)
        answer = await method(*args, **kwargs)
        if fault.error is not None:
            raise fault.error("injected after the work")
        return answer

    return call


def _stream(name: str, method: Callable[..., AsyncIterator[Any]], faults: Faults) -> Callable[..., AsyncIterator[Any]]:
    async def stream(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        fault = faults.called(name) or Fault()
        await faults.before(fault)
        given = 0
        async for item in method(*args, **kwargs):
            if fault.part is not None and given == fault.part:
                break
            given += 1
            yield item
        if fault.error is not None:
            raise fault.error("injected after the work")

    return stream


def _is_batch(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


class Replayed:
    """A bus that delivers some events again: at once, or later, after newer ones of their key.

    That is what the contract allows (docs/streams.md): an event may come twice, and when a bus that lost data is fed
    again, older ones once more after newer ones. First deliveries keep their order.

    Args:
        bus: the real one.
        dice: chooses.
        chance: of an event, to be followed by one that came before or by itself.
    """

    def __init__(self, bus: Bus, dice: random.Random, *, chance: float = 0.5) -> None:
        self.repeated = 0
        """Deliveries that were not the first."""
        self._bus = bus
        self._dice = dice
        self._chance = chance

    def subscribe(
        self,
        group: str,
        topics: Sequence[str],
        handler: Callable[[Message], Awaitable[None]],
        *,
        options: SubscriptionOptions | None = None,
    ) -> Subscription:
        """See mesh.bus.base.Bus."""
        kept: dict[bytes, list[Message]] = {}

        async def handle(message: Message) -> None:
            await handler(message)
            before = kept.setdefault(message.key, [])
            before.append(message)
            while self._dice.random() < self._chance:
                await handler(self._again(before))

        return self._bus.subscribe(group, topics, handle, options=options)

    def subscribe_batch(
        self,
        group: str,
        topics: Sequence[str],
        handler: Callable[[Sequence[Message]], Awaitable[None]],
        *,
        options: SubscriptionOptions | None = None,
    ) -> Subscription:
        """See mesh.bus.base.Bus."""
        kept: list[Message] = []

        async def handle(messages: Sequence[Message]) -> None:
            await handler(messages)
            kept.extend(messages)
            while self._dice.random() < self._chance:
                await handler([self._again(kept) for _ in messages])

        return self._bus.subscribe_batch(group, topics, handle, options=options)

    def _again(self, kept: Sequence[Message]) -> Message:
        self.repeated += 1
        again = self._dice.choice(kept)
        return replace(again, id=f"{again.id}-again", attempt=again.attempt + 1)

    def __getattr__(self, name: str) -> object:
        """All else is the bus's own."""
        return getattr(self._bus, name)
