"""SimHash (Charikar, 2002): 64 bits of a text of which most are equal for texts that are nearly the same."""

from __future__ import annotations

import re
import zlib
from itertools import pairwise

from services.moderation.disguise import skeleton

BITS = 64
NEAR = 6
"""Bits in which two of nearly the same text may differ. Of unrelated texts 32 differ, give or take 4 (binomial)."""
BANDS = 4
"""Into so many parts the bits are cut to find others by: those that differ in fewer bits share one of them."""
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+")
_LINK = re.compile(r"(?:https?://|www\.)\S+")
_LANE = 16  # bits of a counter: a text has fewer than 65,536 words
# A byte, with each bit in a lane of its own: adding these counts all bits at once.
_LANES = [sum(((byte >> bit) & 1) << (bit * _LANE) for bit in range(8)) for byte in range(256)]


def simhash(text: str) -> int:
    """The bits of a text; 0 for one without words. Links and numbers count by being there, not by what they are."""
    plain = _NUMBER.sub("0", _LINK.sub(" 1link1 ", skeleton(text)))
    words = _WORD.findall(plain)
    features = [*words, *(f"{one} {other}" for one, other in pairwise(words))]
    if not features:
        return 0
    total = 0
    for feature in features:
        raw = feature.encode()
        first = zlib.crc32(raw)
        bits = first << 32 | zlib.crc32(raw, first ^ 0x9E3779B9)
        for place in range(8):
            total += _LANES[bits >> (8 * place) & 0xFF] << (8 * _LANE * place)
    half = len(features) / 2
    mask = (1 << _LANE) - 1
    return sum(1 << bit for bit in range(BITS) if (total >> (bit * _LANE) & mask) > half)


def near(one: int, other: int) -> bool:
    """Whether two texts are nearly the same, by their bits."""
    return (one ^ other).bit_count() <= NEAR


def bands(bits: int) -> list[int]:
    """The parts by which others are found."""
    width = BITS // BANDS
    return [bits >> (width * place) & ((1 << width) - 1) for place in range(BANDS)]
