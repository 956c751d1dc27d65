"""The model of `alt-profanity-check` without scikit-learn.

That package is a word list with weights: TF-IDF over 15,442 words, five linear support vector machines, each with a
sigmoid, averaged. To load it takes scikit-learn, SciPy and NumPy: 164 MB of wheels, 2.3 s of CPU, 115 MB of memory,
8 ms for one text. The same numbers are in `words.bin`, which `scripts/toxicity_words.py` makes from the package; this
file does what the package does with them, and gives the same probabilities (tests/unit/test_moderation_words.py).
"""

from __future__ import annotations

import gzip
import json
import math
import re
from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from services.moderation.disguise import undisguised
from services.moderation.models.base import ModelError

FILE = Path(__file__).with_name("words.bin")
_WORD = re.compile(r"(?u)\b\w\w+\b")


class Header(TypedDict):
    """What is in the file before the numbers."""

    words: list[str]
    """All, in the order of their numbers."""
    machines: list[list[float]]
    """Of each machine the intercept, and the slope and offset of its sigmoid."""


class Words:
    """The model.

    Args:
        header: words and machines.
        numbers: for each word its inverse document frequency, and then its weight in each of the machines.
    """

    def __init__(self, header: Header, numbers: array[float]) -> None:
        self._places = {word: place for place, word in enumerate(header["words"])}
        self._machines = header["machines"]
        self._width = 1 + len(self._machines)
        if len(numbers) != self._width * len(self._places) or any(len(one) != 3 for one in self._machines):
            raise ModelError("the file of words is not whole")
        self._numbers = numbers

    @classmethod
    def load(cls, path: Path = FILE) -> Words:
        """From the file. Raises ModelError."""
        try:
            raw = gzip.decompress(path.read_bytes())
            head, _, body = raw.partition(b"\n")
            numbers = array("f")
            numbers.frombytes(body)
            return cls(json.loads(head), numbers)
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise ModelError(f"{path.name} cannot be read: {error}") from error

    def probability(self, text: str) -> float:
        """How toxic a text is, 0 to 1, as the package says."""
        places, numbers, width = self._places, self._numbers, self._width
        counts = Counter(place for word in _WORD.findall(text.lower()) if (place := places.get(word)) is not None)
        weights = {place: count * numbers[place * width] for place, count in counts.items()}
        norm = math.sqrt(sum(weight * weight for weight in weights.values())) or 1.0
        total = 0.0
        for number, (intercept, slope, offset) in enumerate(self._machines, 1):
            score = (
                intercept + sum(weight * numbers[place * width + number] for place, weight in weights.items()) / norm
            )
            total += 1.0 / (1.0 + math.exp(slope * score + offset))
        return total / len(self._machines)

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """How toxic each is, as it stands or as a reader takes it for, whichever is worse."""
        found = []
        for text in texts:
            worst = self.probability(text)
            plain = undisguised(text)
            if plain != text.lower():
                worst = max(worst, self.probability(plain))
            found.append(worst)
        return found
