"""How toxic a post is, by the model that the operator chose. Texts that wait are asked about together."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections.abc import Sequence
from typing import Protocol

import structlog

from mesh.errors import Unavailable
from services.moderation.models.base import BUILT_IN, NONE, Model, ModelError
from services.moderation.models.words import Words
from services.moderation.post import Post

_log = structlog.get_logger(__name__)
_BATCH = 32
_WAITING = 256  # texts; more are refused at once
_HANGS_S = 2.0  # of a batch: then the process is ended and another started
_LOAD_S = 60.0
_LINE = 1 << 20


class Toxicity(Protocol):
    """Says how toxic a post is."""

    async def score(self, post: Post) -> float:
        """0 to 1, NaN if that is what the model says. Raises whatever went wrong; may take its time."""
        ...

    async def run(self) -> None:
        """Runs it for as long as the service does."""
        ...

    async def loaded(self) -> None:
        """Waits until it can answer, a few seconds at most."""
        ...


class InProcess:
    """A model that takes microseconds: asked at once, by this process."""

    def __init__(self, model: Model) -> None:
        self._model = model

    async def score(self, post: Post) -> float:
        """See Toxicity."""
        return self._model([post.words])[0]

    async def run(self) -> None:
        """There is nothing to run."""
        await asyncio.Event().wait()

    async def loaded(self) -> None:
        """It is."""


class OwnProcess:
    """A model in a process of its own (models/serve.py), started again when it ends or hangs.

    Args:
        url: of the model.
        hangs_s: seconds that a batch may take.
        ready_s: how long `loaded` waits.
        command: what serves it.
    """

    def __init__(
        self, url: str, *, hangs_s: float = _HANGS_S, ready_s: float = 10.0, command: Sequence[str] | None = None
    ) -> None:
        self._command = command or (sys.executable, "-m", "services.moderation.models.serve", url)
        self._hangs_s = hangs_s
        self._ready_s = ready_s
        self._queue: asyncio.Queue[tuple[str, asyncio.Future[float]]] = asyncio.Queue(_WAITING)
        self._ready = asyncio.Event()

    async def score(self, post: Post) -> float:
        """See Toxicity. Raises Unavailable while the model is not there, or too much waits."""
        if not self._ready.is_set():
            raise Unavailable("the model is not loaded")
        answer: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((post.words, answer))
        except asyncio.QueueFull:
            raise Unavailable("too many texts wait for the model") from None
        return await answer

    async def loaded(self) -> None:
        """See Toxicity."""
        try:
            await asyncio.wait_for(self._ready.wait(), self._ready_s)
        except TimeoutError:
            _log.warning("the model is not loaded yet: posts are reviewed until it is")

    async def run(self) -> None:
        """Starts the process and asks it, until it ends. Raises ModelError then: whoever runs this begins again."""
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LINE
        )
        batch: list[tuple[str, asyncio.Future[float]]] = []
        try:
            self._check(await self._line(process, _LOAD_S), 0)
            self._ready.set()
            while True:
                batch = [await self._queue.get()]
                while len(batch) < _BATCH and not self._queue.empty():
                    batch.append(self._queue.get_nowait())
                batch = [one for one in batch if not one[1].done()]  # who asked may be gone
                if not batch:
                    continue
                line = json.dumps([text for text, _ in batch]).encode() + b"\n"
                if process.stdin is None:
                    raise ModelError("the model's process has no input")
                process.stdin.write(line)
                try:
                    scores = self._check(await self._line(process, self._hangs_s), len(batch))
                except _BadBatch as error:
                    self._refuse(batch, error)
                    continue
                for (_, answer), score in zip(batch, scores, strict=True):
                    if not answer.done():
                        answer.set_result(score)
        finally:
            self._ready.clear()
            ended = Unavailable("the model ended")
            while not self._queue.empty():
                batch.append(self._queue.get_nowait())
            self._refuse(batch, ended)
            if process.returncode is None:
                process.kill()
            await process.wait()

    @staticmethod
    def _refuse(batch: Sequence[tuple[str, asyncio.Future[float]]], error: Exception) -> None:
        for _, answer in batch:
            if not answer.done():
                answer.set_exception(error)
                answer.exception()  # who asked may be gone

    @staticmethod
    async def _line(process: asyncio.subprocess.Process, limit_s: float) -> object:
        if process.stdout is None:
            raise ModelError("the model's process has no output")
        try:
            line = await asyncio.wait_for(process.stdout.readline(), limit_s)
        except TimeoutError:
            raise ModelError(f"the model took more than {limit_s} s") from None
        if not line:
            raise ModelError("the model's process ended")
        return json.loads(line)

    @staticmethod
    def _check(answer: object, count: int) -> list[float]:
        if isinstance(answer, dict):
            error = str(answer.get("error"))
            raise (_BadBatch if count else ModelError)(error)
        if not isinstance(answer, list) or len(answer) != count:
            raise ModelError("the model's process answers something else")
        return [float(one) if isinstance(one, int | float) else math.nan for one in answer]


class _BadBatch(Exception):
    """The model raised at these texts; others may do."""


def toxicity_of(url: str) -> Toxicity:
    """The model that a URL names. Raises ModelError when the one in the tree cannot be read."""
    if url == BUILT_IN:
        return InProcess(Words.load())
    if url == NONE:
        return InProcess(lambda texts: [0.0] * len(texts))
    return OwnProcess(url)
