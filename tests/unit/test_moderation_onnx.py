"""Models in a process of their own: a real one through ONNX Runtime, and each way in which a process can fail."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from mesh.errors import Unavailable
from services.moderation.checks import Checks
from services.moderation.domain import Reason, Verdict
from services.moderation.models.base import ModelError
from services.moderation.models.onnx_folder import OnnxFolder
from services.moderation.models.wordpiece import WordPiece
from services.moderation.post import Post
from services.moderation.toxicity import OwnProcess
from tests.unit.onnx_models import SPECIAL, write_folder

WORDS = {"hello": (4.0, 0.0), "rude": (0.0, 6.0), "nan": (math.nan, 0.0)}


class Harmless:
    """Stands in for the other checks."""

    async def score(self, post: Post) -> float:
        return 0.0

    async def forbidden(self, post: Post) -> bool:
        return False


@asynccontextmanager
async def running(model: OwnProcess) -> AsyncIterator[OwnProcess]:
    """The process, started again when it ends, as a service does."""

    async def forever() -> None:
        while True:
            with suppress(ModelError, OSError, ValueError):
                await model.run()
            await asyncio.sleep(0)

    task = asyncio.create_task(forever())
    try:
        yield model
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_model_in_a_folder_judges_and_fails_for_itself_alone(tmp_path: Path) -> None:
    url = write_folder(tmp_path / "model", WORDS, unknown=["broken"])
    async with running(OwnProcess(url, ready_s=60)) as model:
        await model.loaded()
        texts = ["Hello, hello", "how RUDE", "rude hello", "", "nan"]
        scores = await asyncio.gather(*(model.score(Post(1, text)) for text in texts))
        assert scores[0] < 0.01 < scores[3] < 0.51 < scores[2] < scores[1]
        assert math.isnan(scores[4])
        checks = Checks(model, Harmless(), Harmless(), limit_s=10, registry=CollectorRegistry())
        assert (await checks.judge(Post(1, "rude rude"))).verdict is Verdict.BLOCK
        for text in ("nan", "broken"):
            found = await checks.judge(Post(1, text))
            assert (found.verdict, found.reasons) == (Verdict.SAFE, (Reason.UNCHECKED,)), text
        assert (await checks.judge(Post(1, "hello"))).verdict is Verdict.SAFE, "others are judged after it"


@pytest.mark.parametrize("lacks", ["model.onnx", "vocab.txt", "config.json"])
def test_a_folder_that_lacks_something_cannot_be_loaded(tmp_path: Path, lacks: str) -> None:
    write_folder(tmp_path, WORDS)
    (tmp_path / lacks).write_text("")
    with pytest.raises(ModelError):
        OnnxFolder.load(tmp_path)


# Each is told of what it has to do in words of Python; all say that they are loaded but for the last two.
FAILING = {
    "hangs": "print('[]', flush=True); import time; time.sleep(60)",
    "is late": "print('[]', flush=True); input(); import time; time.sleep(60)",
    "ends": "print('[]', flush=True); input()",
    "answers nonsense": "print('[]', flush=True); input(); print('{}', flush=True); input()",
    "answers too little": "print('[]', flush=True); input(); print('[]', flush=True); input()",
    "answers no JSON": "print('[]', flush=True); input(); print('what?', flush=True); input()",
    "cannot be loaded": 'print(\'{"error": "no model"}\', flush=True)',
    "does not start": "import sys; sys.exit(3)",
}


@pytest.mark.parametrize("how", FAILING)
async def test_a_process_that_fails_in_any_way_leaves_the_post_published_and_queued(how: str) -> None:
    command = (sys.executable, "-c", FAILING[how])
    async with running(OwnProcess("onnx:///none", hangs_s=0.2, ready_s=0.05, command=command)) as model:
        await model.loaded()  # gives up waiting, and lets the service begin
        checks = Checks(model, Harmless(), Harmless(), limit_s=0.5, registry=CollectorRegistry())
        for _ in range(2):
            found = await checks.judge(Post(1, "hello"))
            assert (found.verdict, found.reasons, found.review) == (Verdict.SAFE, (Reason.UNCHECKED,), True)


async def test_too_many_texts_at_once_are_refused_and_the_others_answered() -> None:
    serve = (
        "import sys, json\nprint('[]', flush=True)\n"
        "for line in sys.stdin: print(json.dumps([0.5 for _ in json.loads(line)]), flush=True)"
    )
    async with running(OwnProcess("onnx:///none", ready_s=30, command=(sys.executable, "-c", serve))) as model:
        await model.loaded()
        asked = [model.score(Post(1, str(number))) for number in range(400)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert answers.count(0.5) >= 256
        assert all(isinstance(answer, Unavailable) for answer in answers if answer != 0.5)


def test_words_are_cut_as_bert_cuts_them() -> None:
    pieces = WordPiece([*SPECIAL, "un", "##want", "##ed", ",", "run", "##ning", "é", "e"], lower=True)
    numbers = {piece: number for number, piece in enumerate([*SPECIAL, "un", "##want", "##ed", ",", "run", "##ning"])}
    wanted = ["[CLS]", "un", "##want", "##ed", ",", "run", "##ning", "[UNK]", "[SEP]"]
    assert pieces.encode("UNwanted,\trunning nothing", 64) == [numbers[piece] for piece in wanted]
    assert pieces.encode("é", 64) == [2, 11, 3], "without its accent"
    assert len(pieces.encode("run " * 100, 16)) == 16
    assert pieces.encode("x" * 1_000, 64) == [2, 1, 3]
    with pytest.raises(ValueError, match="PAD"):
        WordPiece(["a"], lower=True)
