"""A classifier of texts in a local folder, through ONNX Runtime: `model.onnx`, `vocab.txt`, and `config.json`.

That is what exporters of BERT and DistilBERT models write (Optimum: `optimum-cli export onnx --model NAME FOLDER`).
`tokenizer_config.json` tells whether case counts, if it is there. Needs the extra `onnx`. Nothing is downloaded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.moderation.models.base import ModelError
from services.moderation.models.wordpiece import WordPiece

_TOKENS = 256  # a tweet has some 120 at most
_HARMLESS = ("non-toxic", "non_toxic", "nontoxic", "neutral", "safe", "not_toxic", "normal")


class OnnxFolder:
    """The model.

    Args:
        session: onnxruntime.InferenceSession.
        tokenizer: what cuts texts.
        labels: of the outputs, in their order; empty when nobody says.
        independent: whether each label has a probability of its own (sigmoid), or all share one (softmax).
    """

    def __init__(self, session: Any, tokenizer: WordPiece, labels: Sequence[str], *, independent: bool) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self._inputs = [one.name for one in session.get_inputs()]
        self._labels = [label.lower() for label in labels]
        self._independent = independent

    @classmethod
    def load(cls, folder: Path) -> OnnxFolder:
        """From a folder. Raises ModelError for one that has no model, and without the extra."""
        try:
            import onnxruntime
        except ImportError as error:
            raise ModelError("a model in a folder needs onnxruntime: install the extra `onnx`") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        try:
            config: Mapping[str, Any] = json.loads((folder / "config.json").read_text())
            how = folder / "tokenizer_config.json"
            lower = bool(json.loads(how.read_text()).get("do_lower_case", True)) if how.exists() else True
            tokenizer = WordPiece.read(folder / "vocab.txt", lower=lower)
            session = onnxruntime.InferenceSession(
                str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime has exceptions of its own, without a common class
            raise ModelError(f"the model in {folder} cannot be loaded: {error}") from error
        names = config.get("id2label", {})
        labels = [str(names[key]) for key in sorted(names, key=int)]
        return cls(session, tokenizer, labels, independent=config.get("problem_type") == "multi_label_classification")

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """How toxic each is. Raises what ONNX Runtime raises, ModelError for an answer of another shape."""
        import numpy

        rows = [self._tokenizer.encode(text, _TOKENS) for text in texts]
        width = max(map(len, rows))
        known = {
            "input_ids": [[*row, *[self._tokenizer.padding] * (width - len(row))] for row in rows],
            "attention_mask": [[1] * len(row) + [0] * (width - len(row)) for row in rows],
            "token_type_ids": [[0] * width for _ in rows],
        }
        feed = {name: numpy.array(known[name], dtype=numpy.int64) for name in self._inputs if name in known}
        logits = self._session.run(None, feed)[0]
        if getattr(logits, "ndim", 0) != 2 or len(logits) != len(texts):
            raise ModelError("the model answers in another shape")
        return [self._score([float(value) for value in row]) for row in logits]

    def _score(self, logits: list[float]) -> float:
        """The probability of anything toxic: 1 less what is harmless, or the greatest of independent ones."""
        if not all(math.isfinite(value) for value in logits):
            return math.nan
        if self._independent or len(logits) == 1:
            harmful = [value for value, label in zip(logits, self._labels, strict=False) if label not in _HARMLESS]
            return max(1.0 / (1.0 + math.exp(-max(value, -700.0))) for value in harmful or logits)
        top = max(logits)
        powers = [math.exp(value - top) for value in logits]
        harmless = [power for power, label in zip(powers, self._labels, strict=False) if label in _HARMLESS]
        return 1.0 - (sum(harmless) if harmless else powers[0]) / sum(powers)  # unsaid: the first is harmless
