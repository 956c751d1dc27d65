"""WordPiece, as BERT has it (Devlin et al., 2018): words are cut into the longest pieces that a vocabulary has.

The library `tokenizers` does this too, and brings a dozen packages to download models with, which nobody here does.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

_LONGEST = 100  # code points of a word; a longer one is unknown, as in BERT
_PAD, _UNKNOWN, _BEGIN, _END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"


class WordPiece:
    """A tokenizer.

    Args:
        vocabulary: pieces, in the order of their numbers; those within words begin with `##`.
        lower: whether case and accents are dropped before.

    Raises ValueError for a vocabulary without [PAD], [UNK], [CLS] and [SEP].
    """

    def __init__(self, vocabulary: list[str], *, lower: bool) -> None:
        self._numbers = {piece: number for number, piece in enumerate(vocabulary)}
        if missing := [one for one in (_PAD, _UNKNOWN, _BEGIN, _END) if one not in self._numbers]:
            raise ValueError(f"the vocabulary lacks {', '.join(missing)}")
        self._lower = lower

    @classmethod
    def read(cls, path: Path, *, lower: bool) -> WordPiece:
        """From `vocab.txt`, a piece a line. Raises OSError, ValueError."""
        return cls(path.read_text(encoding="utf-8").splitlines(), lower=lower)

    @property
    def padding(self) -> int:
        """The number that fills up."""
        return self._numbers[_PAD]

    def encode(self, text: str, limit: int) -> list[int]:
        """Numbers of a text's pieces between those for its beginning and its end, `limit` in all at most."""
        pieces = [number for word in self._words(text) for number in self._pieces(word)]
        return [self._numbers[_BEGIN], *pieces[: limit - 2], self._numbers[_END]]

    def _words(self, text: str) -> Iterator[str]:
        if self._lower:
            text = unicodedata.normalize("NFD", text.lower())
        word = ""
        for sign in text:
            kind = unicodedata.category(sign)
            if (self._lower and kind == "Mn") or (kind in ("Cc", "Cf") and not sign.isspace()):
                continue
            if sign.isspace() or _alone(sign, kind):
                if word:
                    yield word
                word = ""
                if not sign.isspace():
                    yield sign
            else:
                word += sign
        if word:
            yield word

    def _pieces(self, word: str) -> list[int]:
        found: list[int] = []
        start = 0
        while start < len(word) <= _LONGEST:
            for end in range(len(word), start, -1):
                number = self._numbers.get(("##" if start else "") + word[start:end])
                if number is not None:
                    found.append(number)
                    start = end
                    break
            else:
                return [self._numbers[_UNKNOWN]]
        return found or [self._numbers[_UNKNOWN]]


def _alone(sign: str, kind: str) -> bool:
    """Whether a sign is a word by itself: punctuation, all of ASCII's symbols, CJK ideographs."""
    code = ord(sign)
    symbol = sign.isascii() and not sign.isalnum()
    return symbol or kind.startswith("P") or 0x4E00 <= code <= 0x9FFF or 0x3400 <= code <= 0x4DBF
