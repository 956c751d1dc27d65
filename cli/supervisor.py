"""A whole mesh on this machine: `Mesh` for whoever holds one (`rookery up`), `running_mesh` for tests.

    async with running_mesh(tmp_path) as mesh:
        await mesh.kill("tweet")          # as kill -9 does; the supervisor starts it again
        await mesh.wait_ready("tweet")
        requests.get(mesh.url + "/healthz")

Processes start as soon as what they need is ready and stop after what needs them: the edge first, so that no new
request comes in, then services, which drain, then the store.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.errors import KeyMaterialError, StartError
from cli.migrate import apply
from cli.ports import LOOPBACK, Ports
from cli.process import Patience, State, Supervised
from cli.profile import IDENTITIES, Embedded, Place, Profile, is_on
from cli.state import DataFolder, MeshState, ProcessState

LOG_BYTES = 50 << 20
"""A log is cut when it is larger; its content becomes `NAME.1.log`, so a process has twice this at most."""

_LOG_CHECK_S = 10.0
_UP_S = 120.0  # for a mesh to be ready, migrations included
_READY_S = 30.0  # for one process to be ready again


@dataclass(frozen=True, slots=True)
class Report:
    """Something that the operator may want to know."""

    name: str
    """The process, or the service whose store it is."""
    state: str
    """A `State`, or `migrated`, or `waiting` for an earlier run's processes."""
    detail: str = ""
    """A few words more."""
    pid: int | None = None
    """The process's id, if it runs."""
    took_s: float | None = None
    """Seconds from start to ready."""


class Mesh:
    """Processes of one profile over one data folder.

    Args:
        data: the data folder; made if it is missing.
        port: where the edge listens on loopback; 0 for a free one.
        operator: environment whose `ROOKERY_*` variables override the profile's (cli.profile).
        profile: what to run.
        fresh: delete the data first.
        patience: how long to wait for what.
        report: called at each change of state, on the event loop; it must not block.
    """

    def __init__(
        self,
        data: Path,
        *,
        port: int = 0,
        operator: Mapping[str, str] | None = None,
        profile: Profile | None = None,
        fresh: bool = False,
        patience: Patience | None = None,
        report: Callable[[Report], None] = lambda report: None,
    ) -> None:
        self._data = data
        self._port = port
        self._operator = dict(os.environ if operator is None else operator)
        self._profile = profile or Embedded()
        self._fresh = fresh
        self._patience = patience or Patience()
        self._report = report
        self._ports = Ports()
        self._folder: DataFolder | None = None
        self._processes: dict[str, Supervised] = {}
        self._started: dict[str, float] = {}
        self._since = time.time()
        self._is_ready = False
        self._state_failed = False
        self._hurried = False
        self._logs: asyncio.Task[None] | None = None
        self._renews_keys = False

    @property
    def data(self) -> Path:
        """The data folder, absolute once the mesh is up."""
        return self._folder.root if self._folder else self._data

    @property
    def url(self) -> str:
        """Base URL of the edge."""
        return f"{'https' if self._operator.get('ROOKERY_EDGE_TLS_CERT') else 'http'}://{LOOPBACK}:{self._port}"

    @property
    def names(self) -> tuple[str, ...]:
        """Its processes, in the order in which they start."""
        return tuple(self._processes)

    def target(self, name: str) -> str:
        """gRPC target of a service."""
        return self._process(name).spec.target

    def pid(self, name: str) -> int:
        """Process id. Raises ProcessLookupError when it does not run now."""
        pid = self._process(name).pid
        if pid is None:
            raise ProcessLookupError(f"{name} does not run")
        return pid

    def state(self, name: str) -> State:
        """State of a process, as the supervisor sees it."""
        return self._process(name).state

    def restarts(self, name: str) -> int:
        """How often it was started again after it died."""
        return self._process(name).restarts

    def log(self, name: str) -> Path:
        """File with a process's output."""
        return self._process(name).log

    def environment(self, name: str) -> Mapping[str, str]:
        """All that a process gets as its environment."""
        return self._process(name).spec.environment

    async def up(self) -> None:
        """Claims the data folder, migrates, starts everything and returns when all of it is ready.

        Raises:
            PortError: the port cannot be had; nothing was touched.
            DataError: the data folder cannot be used.
            StoreError: a store cannot be brought up to date.
            ProfileError: the profile cannot be put together from the operator's settings.
            StartError: a process does not come up; everything was stopped again.
        """
        self._port = self._ports.reserve_exclusively(self._port)
        try:
            await self._bring_up()
        except BaseException:
            await self.down()
            raise

    async def down(self) -> None:
        """Stops everything, the last started first, and frees the data folder. Safe to call again."""
        self._is_ready = False
        failed: list[BaseException] = []
        left = dict(self._processes)
        while left:
            needed = {need for process in left.values() for need in process.spec.needs}
            last = [name for name in left if name not in needed]
            results = await asyncio.gather(*(left.pop(name).stop() for name in last), return_exceptions=True)
            failed.extend(result for result in results if isinstance(result, BaseException))
        if self._logs is not None:
            self._logs.cancel()
            await asyncio.wait({self._logs})
            self._logs = None
        if self._folder is not None:
            self._folder.release()
            self._folder = None
        self._ports.release()
        if failed:
            raise failed[0]

    def hurry(self) -> None:
        """Makes a `down`, under way or to come, kill what is left at once."""
        self._hurried = True
        for process in self._processes.values():
            process.hurry()

    async def start(self, name: str) -> None:
        """Starts a process that `stop` or `kill(restart=False)` ended; `wait_ready` waits for it."""
        self._process(name).start()

    async def stop(self, name: str) -> None:
        """Stops one process gracefully; it stays away until `start`."""
        await self._process(name).stop()

    async def kill(self, name: str, *, restart: bool = True) -> None:
        """`kill -9`, returning when it is gone. Raises ProcessLookupError when it does not run.

        Args:
            name: the process.
            restart: the supervisor starts it again, as after any death; otherwise it stays away until `start`.
        """
        self.pid(name)
        await self._process(name).kill(restart=restart)

    async def wait_ready(self, name: str, deadline_s: float = _READY_S) -> None:
        """Waits until a process is ready. Raises StartError when it is not within the deadline."""
        process = self._process(name)
        try:
            async with asyncio.timeout(deadline_s):
                await process.wait_ready()
        except TimeoutError:
            raise StartError(f"{name} is {process.state} after {deadline_s:g} s: {process.detail}") from None

    def _process(self, name: str) -> Supervised:
        if name not in self._processes:
            raise KeyError(f"no process {name!r}: there are {', '.join(self._processes) or 'none yet'}")
        return self._processes[name]

    async def _bring_up(self) -> None:
        def waiting() -> None:
            self._report(
                Report("supervisor", State.WAITING, "processes of an earlier run, which was killed, are ending")
            )

        self._folder = folder = await DataFolder.claim(self._data, fresh=self._fresh, waiting=waiting)
        self._renews_keys = is_on(self._operator, "ROOKERY_MTLS")
        await self._renew_keys()
        place = Place(
            data=folder.root,
            run=folder.run,
            sockets=folder.sockets,
            logs=folder.logs,
            port=self._port,
            operator=self._operator,
            reserve_port=self._ports.reserve,
            keys=folder.root / "keys" if self._renews_keys else None,
        )
        for service, applied in await apply(self._profile.migrations(folder.root, self._operator)):
            if applied:
                self._report(Report(service, "migrated", ", ".join(applied)))
        for spec in self._profile.processes(place):
            log = folder.logs / f"{spec.name}.log"
            if log.exists():
                log.replace(log.with_name(f"{spec.name}.1.log"))
            self._processes[spec.name] = Supervised(spec, log, folder.lock, self._patience, self._changed)
        self._write_state()
        self._logs = asyncio.create_task(self._housekeeping(), name="housekeeping")
        await self._launch_all()
        self._is_ready = True
        self._write_state()

    async def _launch_all(self) -> None:
        launches = [asyncio.create_task(self._launch(process)) for process in self._processes.values()]
        try:
            async with asyncio.timeout(_UP_S):
                await asyncio.gather(*launches)
        except TimeoutError:
            slow = [name for name, process in self._processes.items() if process.state is not State.READY]
            raise StartError(f"not ready after {_UP_S:g} s: {', '.join(slow)}") from None
        finally:
            for launch in launches:
                launch.cancel()
            await asyncio.wait(launches)

    async def _launch(self, process: Supervised) -> None:
        await asyncio.gather(*(self._processes[need].wait_ready() for need in process.spec.needs))
        process.start()
        await process.wait_ready()

    def _changed(self, process: Supervised) -> None:
        name, took = process.spec.name, None
        if process.state is State.STARTING:
            self._started[name] = process.since
        if process.state is State.READY:
            took = process.since - self._started[name]
        if self._hurried:
            process.hurry()
        self._write_state()
        self._report(Report(name, process.state, process.detail, process.pid, took))

    def _write_state(self) -> None:
        if self._folder is None:
            return
        state = MeshState(
            version=1,
            pid=os.getpid(),
            started=self._folder.holder.started,
            profile=self._profile.name,
            port=self._port,
            url=self.url,
            data=str(self._folder.root),
            sockets=str(self._folder.sockets),
            since=self._since,
            ready=self._is_ready,
            processes={name: _state_of(process) for name, process in self._processes.items()},
        )
        try:
            self._folder.write(state)
        except OSError as error:  # a full disk must not end what still works; `status` shows what was written last
            if not self._state_failed:
                self._report(Report("supervisor", "warning", f"cannot write its state: {error.strerror}"))
            self._state_failed = True
        else:
            self._state_failed = False

    async def _housekeeping(self) -> None:
        while True:
            await asyncio.sleep(_LOG_CHECK_S)
            if self._folder is not None:
                await asyncio.to_thread(cut_logs, self._folder.logs)
            try:
                await self._renew_keys()
            except (OSError, KeyMaterialError) as error:  # half of their life is left to put it right
                self._report(Report("supervisor", "warning", f"certificates cannot be renewed: {error}"))

    async def _renew_keys(self) -> None:
        """Makes certificates that are missing or in the second half of their life; none without mutual TLS."""
        if self._folder is None or not self._renews_keys:
            return
        from cli.certificates import Authority

        authority = Authority(self._folder.root / "keys")

        def renew() -> None:
            if not authority.exists:
                authority.create()
            authority.renew(IDENTITIES)

        await asyncio.to_thread(renew)


def _state_of(process: Supervised) -> ProcessState:
    return ProcessState(
        state=str(process.state),
        pid=process.pid,
        restarts=process.restarts,
        since=process.since,
        detail=process.detail,
        log=str(process.log),
        probe=process.spec.probe.kind,
        target=process.spec.probe.target,
        identity=str(process.spec.probe.identity or ""),
        environment=without_secrets(process.spec.environment),
    )


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The `ROOKERY_*` part of an environment, fit to be shown: no passwords in URLs, no keys."""
    shown = {}
    for name, value in environment.items():
        if not name.startswith("ROOKERY_"):
            continue
        if re.search(r"SECRET|PASSWORD|PRIVATE|(_|^)KEY", name):
            shown[name] = "***"
            continue
        masked = re.sub(r"://.*@", "://***@", value)  # to the last @: a password may hold one, unescaped
        shown[name] = re.sub(r"(?i)((?:password|secret|key|token)=)[^&]*", r"\1***", masked)
    return shown


def cut_logs(folder: Path, most: int = LOG_BYTES) -> None:
    """Moves the content of each log in the folder that is larger than `most` bytes to `NAME.1.log`.

    The process goes on writing to the same file, which it appends to. What it writes between copy and cut, a few
    milliseconds apart, is lost: the price of processes that write with no supervisor in between.
    """
    for log in folder.glob("*.log"):
        if log.stem.endswith(".1"):
            continue
        try:
            if log.stat().st_size > most:
                shutil.copyfile(log, log.with_name(f"{log.stem}.1.log"))
                os.truncate(log, 0)
        except FileNotFoundError:
            continue


@asynccontextmanager
async def running_mesh(
    data: Path,
    *,
    port: int = 0,
    env: Mapping[str, str] | None = None,
    profile: Profile | None = None,
    patience: Patience | None = None,
) -> AsyncIterator[Mesh]:
    """A mesh that is up inside the block and gone after it. `ROOKERY_*` of the caller's environment is left out.

    Args:
        data: the data folder.
        port: where the edge listens; 0 for a free one.
        env: variables that override the profile's.
        profile: what to run; the embedded default.
        patience: how long to wait for what.

    Raises:
        As `Mesh.up` does.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ROOKERY_")}
    mesh = Mesh(data, port=port, operator={**clean, **(env or {})}, profile=profile, patience=patience)
    await mesh.up()
    try:
        yield mesh
    finally:
        await mesh.down()
