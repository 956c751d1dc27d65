"""Processes that a benchmark measures, or measures with: a command a line comes in, an answer a line goes out."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from bench.errors import BenchError
from cli.profile import PROJECT, inherited

Message: TypeAlias = dict[str, int | float | str]
"""A command or an answer: plain values."""
_START_S = 30.0
_STOP_S = 5.0


class Worker:
    """A process that carries out commands, as its starter sees it."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self._name = name
        self._process = process

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    async def ask(self, deadline_s: float, **command: int | float | str) -> Message:
        """Has a command carried out. Raises BenchError when it fails, or has not ended within the deadline."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise BenchError(f"{self._name} has no pipes")
        try:
            stdin.write(json.dumps(command).encode() + b"\n")
            async with asyncio.timeout(deadline_s):
                await stdin.drain()
                line = await stdout.readline()
        except TimeoutError:
            raise BenchError(f"{self._name} has not answered within {deadline_s:g} s") from None
        except ConnectionError:
            line = b""
        if not line:
            raise BenchError(f"{self._name} ended; see its message above")
        answer: Message = json.loads(line)
        if "error" in answer:
            raise BenchError(f"{self._name}: {answer['error']}")
        return answer


@asynccontextmanager
async def worker(module: str, *arguments: str) -> AsyncIterator[Worker]:
    """`python -m module` as a worker; it has ended after the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        cwd=PROJECT,
        env=inherited(os.environ),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    made = Worker(module, process)
    try:
        await made.ask(_START_S)  # the empty command: it is there
        yield made
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def work(carry_out: Callable[[Message], Awaitable[Message]]) -> None:
    """A worker's main: carries out commands from standard input until it is closed."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command: Message = json.loads(line)
        answer: Message = {}
        if command:
            try:
                answer = await carry_out(command)
            except (BenchError, OSError, TimeoutError) as error:
                answer = {"error": str(error) or type(error).__name__}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
