"""One supervised process: started, watched until ready, restarted with back-off when it dies, stopped on request."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cli.errors import StartError
from cli.probe import ask, socket_path
from cli.profile import ProcessSpec

_GUARD = Path(__file__).with_name("guard.py")
_POLL_S = 0.05  # nothing announces readiness to a supervisor, so it asks
_REAP_S = 5.0  # after SIGKILL; only a process stuck in the kernel takes longer
_BAD_SETTING = 2  # exit status of mesh.server for a wrong setting: trying again cannot help
_TAIL_LINES = 12
_ORDERLY = ("", "ended with status 0", "ended by SIGTERM")


class State(StrEnum):
    """Of a process."""

    WAITING = "waiting"
    """For those that it needs."""
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    """It died, and starts again when its back-off is over."""
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the supervisor waits for what."""

    backoff_s: float = 0.2
    """Before the first restart; doubled for each that follows."""
    longest_backoff_s: float = 5.0
    """The most."""
    steady_s: float = 30.0
    """A process that ran this long starts again with the first back-off."""
    start_s: float = 60.0
    """From start to ready; then it is killed. Valkey reads 1 GB of its log in about a third of that."""
    stop_s: float = 12.0
    """From SIGTERM to SIGKILL; a service drains for 10 s at most."""
    attempts: int = 3
    """Exits before a process was ever ready after which starting is given up."""


class Supervised:
    """A process and its supervision.

    Args:
        spec: what to run.
        log: file that its output is appended to.
        lock: descriptor that it inherits (`DataFolder.lock`).
        patience: waiting times.
        changed: called at each change of state, on the event loop; it must not block.
    """

    def __init__(
        self, spec: ProcessSpec, log: Path, lock: int, patience: Patience, changed: Callable[[Supervised], None]
    ) -> None:
        self.spec = spec
        self.log = log
        self.state = State.WAITING
        self.detail = ""
        """A few words on the last change."""
        self.ending = ""
        """How the process ended last."""
        self.since = time.time()
        """When the state changed, in seconds since 1970."""
        self.pid: int | None = None
        self.restarts = 0
        self._lock = lock
        self._patience = patience
        self._changed = changed
        self._exits = 0  # since it was last ready
        self._overtime = ""
        self._ready = asyncio.Event()
        self._broken = asyncio.Event()
        self._gone = asyncio.Event()
        self._gone.set()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._was_ready = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to supervise; does nothing when it does already. Call it in the loop's own thread, which must last."""
        if self._task is None or self._task.done():
            self._stop.clear()
            self._broken.clear()
            self._exits = 0
            self._overtime = ""
            self._task = asyncio.create_task(self._supervise(), name=f"supervise {self.spec.name}")

    async def wait_ready(self) -> None:
        """Waits until it is ready. Raises StartError when it never was and does not come up."""
        if await _first(self._ready, self._broken) is self._broken:
            raise StartError(f"{self.spec.name} does not start: {self.ending}{await asyncio.to_thread(self._tail)}")

    async def stop(self) -> None:
        """Drains, SIGTERM, and SIGKILL when it takes too long; returns when it is gone, also if it never was there."""
        if self._task is None:
            if self.state is not State.STOPPED:
                self._set(State.STOPPED)
            return
        self._stop.set()
        if self.pid is not None:
            self._ready.clear()
            self._set(State.STOPPING)
            if self.spec.drain is not None:
                await self._drain(self.spec.drain)
            self._signal(signal.SIGTERM)
            if not await self._is_gone(self._patience.stop_s):
                if not self._hurry.is_set():
                    self._overtime = f"killed: still there {self._patience.stop_s:g} s after SIGTERM"
                self._signal(signal.SIGKILL)
        await self._finish()

    async def kill(self, *, restart: bool) -> None:
        """SIGKILL; returns when it is gone. `restart`: supervision goes on and starts it again, as after any death."""
        if not restart:
            self._stop.set()
        self._signal(signal.SIGKILL)
        await self._gone.wait()
        if not restart:
            await self._finish()

    def hurry(self) -> None:
        """Ends all waiting in `stop`, now and later: SIGKILL at once."""
        self._hurry.set()
        if self._stop.is_set():
            self._signal(signal.SIGKILL)

    async def _finish(self) -> None:
        if self._task is not None:
            async with asyncio.timeout(_REAP_S):
                await self._task
            self._task = None
        self._set(State.STOPPED, self._overtime or ("" if self.ending in _ORDERLY else self.ending))

    async def _supervise(self) -> None:
        try:
            await self._keep_running()
        except Exception as error:  # a defect of the supervisor: said by whoever waits, and raised by `stop`
            self._ended(None, f"supervision failed: {error!r}")
            self._broken.set()
            self._gone.set()
            raise

    async def _keep_running(self) -> None:
        backoff = self._patience.backoff_s
        while not self._stop.is_set():
            began = time.monotonic()
            await self._run()
            if self._stop.is_set():
                return
            if time.monotonic() - began >= self._patience.steady_s:
                backoff = self._patience.backoff_s
            self._set(State.RESTARTING, f"{self.ending}; starts again in {backoff:.1f} s")
            self._gone.set()
            if await _within(self._stop, backoff):
                return
            backoff = min(backoff * 2, self._patience.longest_backoff_s)
            self.restarts += 1

    async def _run(self) -> None:
        """One life of the process, from start to end."""
        try:
            process = await self._spawn()
        except OSError as error:
            self._ended(None, f"cannot be started: {error.strerror}")
            return
        self.pid = process.pid
        self._gone.clear()
        self._set(State.STARTING)
        if self._stop.is_set():  # asked for while the process was being made
            self._signal(signal.SIGKILL)
        exited = asyncio.create_task(process.wait())
        watch = asyncio.create_task(self._watch(), name=f"watch {self.spec.name}")
        late = False
        try:
            await asyncio.wait({exited, watch}, return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                late = watch.result()
            code = await exited
        finally:
            watch.cancel()
            self._signal(signal.SIGKILL)  # whatever it left in its process group; itself, when watching it failed
            await asyncio.wait({watch, exited})
        how = f"was not ready within {self._patience.start_s:g} s" if late else _how(code)
        self._ended(code, how, late=late)

    async def _spawn(self) -> asyncio.subprocess.Process:
        if self.spec.probe.target.startswith("unix:"):
            socket_path(self.spec.probe.target).unlink(missing_ok=True)  # a dead process's, which refuses connections
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), *self.spec.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.spec.environment),
                cwd=self.spec.folder,
                pass_fds=(self._lock,),
                umask=0o077,
                start_new_session=True,  # so that a terminal's Ctrl-C reaches the supervisor only
            )

    async def _watch(self) -> bool:
        """Asks until it is ready. True when that took too long, and the process was killed."""
        until = time.monotonic() + self._patience.start_s
        while (why := await ask(self.spec.probe)) is not None:
            if time.monotonic() > until:
                self._signal(signal.SIGKILL)
                return True
            self.detail = why
            await asyncio.sleep(_POLL_S)
        if not self._stop.is_set():
            self._exits = 0
            self._was_ready = True
            self._set(State.READY)
            self._ready.set()
        return False

    def _ended(self, code: int | None, how: str, *, late: bool = False) -> None:
        self.pid = None
        self._ready.clear()
        self._exits += 1
        self.ending = how
        if not self._was_ready and (late or code == _BAD_SETTING or self._exits >= self._patience.attempts):
            self._broken.set()
        if self._stop.is_set():
            self._gone.set()

    async def _drain(self, drain: Callable[[], Awaitable[None]]) -> None:
        async def quietly() -> None:
            try:
                await drain()
            except OSError:  # it is ill or already going; SIGTERM comes next in any case
                return

        draining = asyncio.ensure_future(quietly())
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({draining, hurry}, return_when=asyncio.FIRST_COMPLETED)
        draining.cancel()
        hurry.cancel()
        await asyncio.wait({draining, hurry})

    async def _is_gone(self, deadline_s: float) -> bool:
        try:
            async with asyncio.timeout(deadline_s):
                return await _first(self._gone, self._hurry) is self._gone
        except TimeoutError:
            return False

    def _signal(self, number: signal.Signals) -> None:
        """To its process group, which it leads; so that what it started is reached too."""
        if self.pid is None:
            return
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return

    def _set(self, state: State, detail: str = "") -> None:
        self.state = state
        self.detail = detail
        self.since = time.time()
        self._changed(self)

    def _tail(self) -> str:
        try:
            with self.log.open(encoding="utf-8", errors="replace") as log:
                lines = deque(log, maxlen=_TAIL_LINES)
        except FileNotFoundError:
            return ""
        return "".join(f"\n  {line.rstrip()[:400]}" for line in lines)


def _how(code: int) -> str:
    """How a process ended, from its return code."""
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"


async def _first(*events: asyncio.Event) -> asyncio.Event:
    """The event that is set first; of those set at the same time, the one named first."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)
    return next(event for event in events if event.is_set())


async def _within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
