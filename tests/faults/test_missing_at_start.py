"""Services start while what they depend on is not there yet: they say so, do what they can, and need no restart."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from cli.process import State
from cli.profile import SERVICES, Embedded, Place, ProcessSpec
from cli.supervisor import Mesh
from services.user.tokens import AUDIENCE, ISSUER
from tests.faults.conftest import QUICK
from tests.faults.crowd import Crowd
from tests.faults.oracle import check_pages, converge

pytestmark = [pytest.mark.xdist_group("faults-power"), pytest.mark.timeout(110)]

LATE = ("valkey", "user", "graph")
"""The store of caches and events, the keeper of keys and names, and whom timeline and fanout ask."""


class _Gated:
    """The embedded profile without an order: everything starts at once, but what is `LATE` waits for its gate."""

    def __init__(self, gates: Path) -> None:
        self._gates = gates
        self._embedded = Embedded()
        self.name = self._embedded.name
        self.migrations = self._embedded.migrations

    def processes(self, place: Place) -> Sequence[ProcessSpec]:
        """See cli.profile.Profile."""
        return [replace(self._gated(spec), needs=()) for spec in self._embedded.processes(place)]

    def _gated(self, spec: ProcessSpec) -> ProcessSpec:
        if spec.name not in LATE:
            return spec
        wait = 'gate=$0; until [ -e "$gate" ]; do sleep 0.05; done; exec "$@"'
        return replace(spec, command=("/bin/sh", "-c", wait, str(self._gates / spec.name), *spec.command))


async def test_services_wait_for_what_is_not_there_yet(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path / "data", operator={}, profile=_Gated(tmp_path), patience=QUICK)
    async with AsyncExitStack() as cleanup:
        up = asyncio.create_task(mesh.up())

        async def down() -> None:
            up.cancel()
            with suppress(asyncio.CancelledError):
                await up
            await mesh.down()

        cleanup.push_async_callback(down)

        began = time.monotonic()
        present = [name for name in (*SERVICES, "envoy") if name not in LATE]
        await _until_ready(mesh, up, present)
        print(f"report: without {', '.join(LATE)}: ready in {time.monotonic() - began:.1f} s: {', '.join(present)}")
        async with httpx.AsyncClient(base_url=mesh.url, timeout=5, trust_env=False, verify=False) as client:
            body = {"username": "early", "email": "e@example.org", "password": "correct horse"}
            refused = await client.post("/v1/auth/register", json=body)
            assert refused.status_code == 503, refused.text  # unavailable, which is the truth, and not 500
            # Without the keys nobody can say whether a token is good: 401 would sign everybody out.
            unknown = await client.get("/2/users/me", headers={"authorization": f"Bearer {_well_formed_token()}"})
            assert unknown.status_code == 503, unknown.text

        (tmp_path / "user").touch()
        (tmp_path / "graph").touch()
        await _until_ready(mesh, up, [*SERVICES, "envoy"])
        crowd = Crowd(mesh.url)
        cleanup.push_async_callback(crowd.close)
        await crowd.gather()  # registers and follows: needs no cache, no bus
        without = time.monotonic()
        async with crowd.load():
            await crowd.posted(30)
            now = time.monotonic()
            (tmp_path / "valkey").touch()
            await asyncio.wait_for(up, 30)
            ready = time.monotonic()
            await crowd.posted(30)
        settled = await converge(mesh, crowd)
        print(crowd.record.report("no Valkey since the start", without, without, ready))
        print(f"report: late start: all as it must be {settled:.1f} s after the end of load")
        assert check_pages(crowd, without, now, at_once=True) > 10
        assert crowd.record.failures(without) == []
        assert {name: mesh.restarts(name) for name in mesh.names if mesh.restarts(name)} == {}, "somebody crashed"


def _well_formed_token() -> str:
    """A token as the user service makes them, but for its signature."""
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "7", "iat": now, "exp": now + 900}
    parts = [json.dumps({"alg": "EdDSA", "kid": "k1"}).encode(), json.dumps(claims).encode(), bytes(64)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


async def _until_ready(mesh: Mesh, up: asyncio.Task[None], names: Sequence[str], deadline_s: float = 30.0) -> None:
    """Waits until these are ready, and says which are not when they are not in time."""
    until = time.monotonic() + deadline_s
    while True:
        states = {name: mesh.state(name) for name in names if name in mesh.names}
        if len(states) == len(names) and all(state is State.READY for state in states.values()):
            return
        assert not up.done(), up.exception()
        assert time.monotonic() < until, states
        await asyncio.sleep(0.05)
