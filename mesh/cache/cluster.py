"""The cache store as a cluster: each key has a slot, and each slot a node.

A trip goes to all nodes that it concerns at once, with one packet each. What a node is not to be asked for goes to the
one that it names; what belongs to a node that is gone is gone, and nothing else. All of this is bounded: in tries, in
time, and in how often nodes are asked where slots are.

A write (`write`) is answered when a replica has it too, so a replica that takes over knows all that was answered. When
no replica follows, writes are not held up: a second loss would then lose them, as it would the node.
"""

from __future__ import annotations

import asyncio
import math
import random
import ssl
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import cast
from urllib.parse import unquote

import redis.asyncio as redis
from redis.exceptions import ResponseError

from mesh.cache.keys import SLOTS, slot
from mesh.cache.node import Access, Late, Lost, Node, Refusal, Sent, answers_of
from mesh.cache.store import TIMEOUT_S, Answer, CacheGone, CacheStore, Command, Script
from mesh.context import shared
from mesh.resp import packed
from mesh.settings import SettingError

_TRIES = 7
_AGAIN_S = 0.005  # before the third try, or where only some keys of a command have moved; doubled each time
_LEARN_EVERY_S = 0.1
_KEPT_MS = 50  # a replica takes a write within one; one that does not is behind or gone
_UNBACKED_S = 1.0
_PORT = 6379
_CANNOT = ("CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY", "OOM")
_UNWELL = ("LOADING", "MASTERDOWN")
_ASKING: Command = ("ASKING",)


class Cluster(CacheStore):
    """A cluster: `redis+cluster://name:password@host:port,host:port`.

    Args:
        url: some of its nodes.

    Raises:
        SettingError: the URL names no nodes. It is not repeated in the message.
    """

    def __init__(self, url: str) -> None:
        self._access, self._seeds = _parts_of(url)
        scheme, _, rest = url.partition("+cluster://")
        self._one_url = f"{scheme}://{rest.partition(',')[0]}"
        self._nodes: dict[tuple[str, int], Node] = {}
        self._owners: list[Node | None] = []
        self._learning: asyncio.Task[None] | None = None
        self._learnt_at = -math.inf
        self._client: redis.RedisCluster | None = None

    @property
    def client(self) -> redis.Redis:
        """See CacheStore."""
        if self._client is None:
            self._client = redis.RedisCluster.from_url(self._one_url, protocol=2)
        return cast("redis.Redis", self._client)

    def together(self, keys: Sequence[str]) -> list[Sequence[str]]:
        """See CacheStore: those of a slot."""
        groups: dict[int, list[str]] = {}
        for key in keys:
            groups.setdefault(slot(key), []).append(key)
        return [*groups.values()]

    async def exchange(self, commands: Sequence[Command]) -> list[Answer]:
        """See CacheStore."""
        return await self._carry_out(commands, writes=False)

    async def write(self, commands: Sequence[Command]) -> list[Answer]:
        """See CacheStore: what is answered, a replica has too, if one follows."""
        return await self._carry_out(commands, writes=True)

    async def close(self) -> None:
        """See CacheStore."""
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.wait([self._learning])
        for node in self._nodes.values():
            node.close()
        if self._client is not None:
            await self._client.aclose()

    async def _carry_out(self, commands: Sequence[Command], *, writes: bool, in_order: bool = True) -> list[Answer]:
        trip = _Trip(commands, in_order=in_order)
        if trip.commands:
            await self._run(trip, writes)
        return trip.result()

    async def _run(self, trip: _Trip, writes: bool) -> None:
        if not self._owners:
            await self._learn_first()
        pause = _AGAIN_S
        for tries in range(_TRIES):
            await self._send(trip, writes)
            if not trip.troubled:
                return
            await self._take_apart(trip, writes)
            waits = self._sort_out(trip)
            if not trip.pending:
                return
            if waits or tries:  # one redirection is usual; more, and the nodes have yet to agree
                await asyncio.sleep(pause)  # nothing announces it
                pause *= 2
        for number in trip.pending:
            trip.answers[number] = CacheGone("A part of the cache is being moved.")

    async def _send(self, trip: _Trip, writes: bool) -> None:
        """Makes one packet for each node, sends all, and then reads all."""
        by_node: dict[Node, list[int]] = {}
        owners, slots, asking = self._owners, trip.slots, trip.asking
        for number in trip.pending:
            node = owners[slots[number]]
            if asking:
                node = asking.get(number, node)
            if node is None:
                self._learn_soon()
                trip.gave_up([number], CacheGone("A part of the cache is gone."))
            elif node in by_node:
                by_node[node].append(number)
            else:
                by_node[node] = [number]
        now = asyncio.get_running_loop().time()
        sent: list[Sent] = []
        packets: list[_Packet] = []
        try:
            for node, numbers in by_node.items():
                packet = _Packet(trip, node, numbers, kept=writes and node.backed(now))
                try:
                    sent.append(await node.send(packed(packet.commands), len(packet.commands), writes=writes))
                    packets.append(packet)
                except CacheGone as gone:
                    self._learn_soon()
                    trip.gave_up(numbers, gone)
                except TimeoutError:
                    self._learn_soon()
                    trip.gave_up(numbers, CacheGone("A part of the cache does not answer."))
                except (OSError, Lost):
                    self._learn_soon()
                    trip.lost(node, numbers)
        except BaseException:
            for each in sent:
                each.node.breaker.abandoned()
            raise
        for packet, answers in zip(packets, await answers_of(sent), strict=True):
            if isinstance(answers, Lost):
                self._learn_soon()
                trip.lost(packet.node, packet.numbers)
            elif isinstance(answers, Late):  # it would be late again
                self._learn_soon()
                trip.gave_up(packet.numbers, CacheGone("A part of the cache does not answer."))
            elif not packet.take(answers):
                packet.node.unbacked_until = now + _UNBACKED_S

    async def _take_apart(self, trip: _Trip, writes: bool) -> None:
        """Where a slot moves, a command is refused of whose keys only some have moved: then each goes alone."""
        for number in trip.pending:
            answer, command = trip.answers[number], trip.commands[number]
            if not isinstance(answer, Refusal) or answer.code != "TRYAGAIN" or command[0] != "EVALSHA":
                continue
            script, size = Script.by_digest[str(command[1])], int(command[2])
            if script.each and size > 1:
                keys, args = [str(key) for key in command[3 : 3 + size]], command[3 + size :]
                try:
                    alone = [script.on([key], *args) for key in keys]
                    parts = await self._carry_out(alone, writes=writes, in_order=False)
                except CacheGone as gone:
                    trip.answers[number] = gone
                else:
                    trip.answers[number] = sum(parts)

    def _sort_out(self, trip: _Trip) -> bool:
        """Finds what must be tried again, and where; whether it should wait for a moment."""
        again: list[int] = []
        waits = False
        pending, trip.pending = trip.pending, []
        asked, trip.asking = trip.asking, {}
        for number in pending:
            answer = trip.answers[number]
            if isinstance(answer, Lost):
                again.append(number)
                continue
            if not isinstance(answer, Refusal):
                continue
            node = trip.node_of[number]
            code = answer.code
            if code in ("MOVED", "ASK"):
                target = self._named(answer, node)
                if code == "MOVED":
                    self._owners[trip.slots[number]] = target
                    self._learn_soon()
                else:
                    trip.asking[number] = target
            elif code == "TRYAGAIN":
                waits = True
                if number in asked:
                    trip.asking[number] = asked[number]
            elif code == "NOSCRIPT":
                trip.unknown.setdefault(node, set()).add(Script.by_digest[str(trip.commands[number][1])].text)
                if number in asked:
                    trip.asking[number] = asked[number]
            else:
                if code in _CANNOT:
                    self._learn_soon()
                    if code in _UNWELL:
                        node.breaker.failure()
                    trip.answers[number] = CacheGone("A part of the cache cannot answer yet.")
                continue
            again.append(number)
        trip.again(again)
        return waits

    # --- where slots are

    def _named(self, answer: Refusal, by: Node) -> Node:
        """The node that an answer names."""
        host, _, port = str(answer).split(" ")[2].rpartition(":")
        return self._node(host or by.host, int(port))

    def _node(self, host: str, port: int) -> Node:
        node = self._nodes.get((host, port))
        if node is None:
            node = self._nodes[host, port] = Node(host, port, self._access)
        return node

    async def _learn_first(self) -> None:
        """Finds the nodes. Raises CacheGone when none tells, at once if none did a moment ago."""
        if asyncio.get_running_loop().time() >= self._learnt_at + _LEARN_EVERY_S:
            self._learn_soon()
        if self._learning is not None:
            await asyncio.wait([self._learning], timeout=TIMEOUT_S)
        if not self._owners:
            raise CacheGone("The cache does not answer.")

    def _learn_soon(self) -> None:
        """Asks the nodes where slots are: now, or when the last time is long enough ago."""
        if self._learning is None:
            self._learning = asyncio.create_task(self._learn(), context=shared())
            self._learning.add_done_callback(self._learnt)

    def _learnt(self, task: asyncio.Task[None]) -> None:
        self._learning = None
        if not task.cancelled():
            task.exception()

    async def _learn(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._learnt_at + _LEARN_EVERY_S - loop.time()))
        known = list(self._nodes)
        random.shuffle(known)
        try:
            for host, port in dict.fromkeys([*known, *self._seeds]):
                node = self._node(host, port)
                try:
                    slots = await node.ask(("CLUSTER", "SLOTS"))
                except CacheGone:
                    continue
                if slots:
                    self._note(slots, node)
                    return
        finally:
            self._learnt_at = loop.time()

    def _note(self, ranges: Iterable[Sequence[Answer]], by: Node) -> None:
        """Takes over what a node tells: ranges of slots, each with its master and then its replicas."""
        owners: list[Node | None] = [None] * SLOTS
        there: set[tuple[str, int]] = set(self._seeds)
        for first, last, *nodes in ranges:
            found = [self._node((host or b"").decode() or by.host, int(port)) for host, port, *_ in nodes]
            there |= {(node.host, node.port) for node in found}
            found[0].replicas = len(found) - 1
            owners[first : last + 1] = [found[0]] * (last + 1 - first)
        self._owners = owners
        for place in self._nodes.keys() - there:
            self._nodes.pop(place).close()


class _Packet:
    """What one node gets of a trip: scripts that it lacks, the commands, and the wait for a replica."""

    def __init__(self, trip: _Trip, node: Node, numbers: Sequence[int], *, kept: bool) -> None:
        self.node = node
        self.numbers = numbers
        self._trip = trip
        self._kept = kept
        self.commands: list[Command] = [("SCRIPT", "LOAD", text) for text in trip.unknown.pop(node, ())]
        self._skip = len(self.commands)
        if trip.asking:
            for number in numbers:
                self.commands += ((_ASKING,) if number in trip.asking else ()) + (trip.commands[number],)
        else:
            self.commands += [trip.commands[number] for number in numbers]
        if kept:
            self.commands.append(("WAIT", 1, _KEPT_MS))

    def take(self, answers: Sequence[Answer]) -> bool:
        """Hands the answers on; whether a replica has taken what was written, if one was waited for."""
        trip, at, found = self._trip, self._skip, self._trip.answers
        if not trip.asking and Refusal not in map(type, answers):
            for number, answer in zip(self.numbers, islice(answers, at, None), strict=False):  # not WAIT's
                found[number] = answer
            at += len(self.numbers)
        else:
            trip.troubled = True
            for number in self.numbers:
                if number in trip.asking:
                    at += 1
                found[number] = answers[at]
                trip.node_of[number] = self.node
                at += 1
        return not self._kept or answers[at] != 0


class _Trip:
    """Commands on their way, each with its slot; MGET is a GET for each of its keys."""

    def __init__(self, commands: Sequence[Command], *, in_order: bool) -> None:
        self._in_order = in_order
        self.commands: list[Command] = []
        self.slots: list[int] = []
        self._shape: list[int | None] = []
        for command in commands:
            if command[0] == "MGET":
                keys = command[1:]
                self._shape.append(len(keys))
                self.commands += [("GET", key) for key in keys]
                self.slots += [slot(cast("str | bytes", key)) for key in keys]
            else:
                self._shape.append(None)
                self.commands.append(command)
                self.slots.append(slot(cast("str | bytes", command[3 if command[0] == "EVALSHA" else 1])))
        self.answers: list[Answer] = [None] * len(self.commands)
        self.pending: list[int] = list(range(len(self.commands)))
        self.asking: dict[int, Node] = {}
        """Commands whose slot moves, and the node that it moves to."""
        self.unknown: dict[Node, set[str]] = {}
        """Scripts that nodes lack."""
        self.node_of: dict[int, Node] = {}
        self.troubled = False
        """Whether anything but answers came."""
        self._lost: set[Node] = set()

    def again(self, numbers: Sequence[int]) -> None:
        """These are carried out again; and after each, so that the last is the last, what came later on its slot."""
        if not self._in_order or not numbers:
            self.pending = [*numbers]
            return
        first: dict[int, int] = {}
        for number in numbers:
            first.setdefault(self.slots[number], number)
        self.pending = [n for n, at in enumerate(self.slots) if at in first and n >= first[at]]

    def gave_up(self, numbers: Sequence[int], gone: CacheGone) -> None:
        """These commands were not carried out, or nobody knows."""
        self.troubled = True
        for number in numbers:
            self.answers[number] = gone

    def lost(self, node: Node, numbers: Sequence[int]) -> None:
        """The connection ended: once a node, that may have been all that is wrong with it."""
        again = node not in self._lost
        self._lost.add(node)
        self.troubled = True
        for number in numbers:
            self.answers[number] = Lost() if again else CacheGone("A part of the cache does not answer.")

    def result(self) -> list[Answer]:
        """The answers to what was asked. Raises CacheGone, and ResponseError for the first that was refused."""
        if not self.troubled:
            rest = iter(self.answers)
            return [next(rest) if size is None else [*islice(rest, size)] for size in self._shape]
        refused: ResponseError | None = None
        lost = [answer for answer in self.answers if isinstance(answer, CacheGone)]
        gone = lost[0] if lost and len(lost) == len(self.answers) else None
        answers: list[Answer] = []
        at = 0
        for size in self._shape:
            some = self.answers[at : at + (1 if size is None else size)]
            at += len(some)
            for answer in some:
                if isinstance(answer, Refusal) and not (size is not None and answer.code == "WRONGTYPE"):
                    refused = refused or ResponseError(str(answer))
                elif isinstance(answer, CacheGone) and size is None:
                    gone = gone or answer
            if size is None:
                answers.append(some[0])
            else:
                answers.append([None if isinstance(answer, Exception) else answer for answer in some])
        if gone is not None:
            raise CacheGone(gone.detail)
        if refused is not None:
            raise refused
        return answers


def _parts_of(url: str) -> tuple[Access, list[tuple[str, int]]]:
    scheme, _, rest = url.partition("://")
    rest = rest.partition("?")[0].partition("/")[0]
    who, _, places = rest.rpartition("@")
    name, _, password = who.partition(":")
    hosts: list[tuple[str, int]] = []
    for place in places.split(","):
        host, colon, port = place.rpartition(":")
        if place.endswith("]") or not colon:
            host, port = place, str(_PORT)
        if not host or not port.isdecimal():
            raise SettingError("CACHE_URL names no nodes: redis+cluster://name:password@host:port,host:port")
        hosts.append((host.strip("[]"), int(port)))
    tls = ssl.create_default_context() if scheme.startswith("rediss") else None
    return Access(unquote(name), unquote(password), tls), hosts
