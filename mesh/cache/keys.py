"""Where keys are: the slot of a key in a cluster, and keys of owners that share one."""

from __future__ import annotations

from binascii import crc_hqx

SLOTS = 16_384
"""Of a cluster, by its specification."""
BUCKETS = 1_024
"""Into so many slots the keys of owners go, a power of two. One call takes the lists of a batch that share a slot, so
fewer buckets make fewer calls, and more let more masters share the work. At 1,024 a page of 10,000 owners has ten to a
call, and a hundred masters have ten buckets each (docs/operations.md has the figures)."""
_SPREAD = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: neighbours fall far apart (Knuth, volume 3, 6.4)
_MASK = (1 << 64) - 1
_SHIFT = 65 - BUCKETS.bit_length()


def bucket(owner: int) -> int:
    """The bucket of an owner, as likely as any other: the low bits of ids alone are mostly 0."""
    return (owner * _SPREAD & _MASK) >> _SHIFT


def owned(prefix: str, owner: int) -> str:
    """A key of an owner. All keys of one owner share a slot, with those of many others."""
    return f"{prefix}{{{(owner * _SPREAD & _MASK) >> _SHIFT}}}{owner}"


def slot(key: str | bytes) -> int:
    """The slot of a key: of what is in its first pair of braces, if there is anything, or else of all of it."""
    name = key.encode() if isinstance(key, str) else key
    begin = name.find(b"{")
    if begin >= 0:
        end = name.find(b"}", begin + 1)
        if end > begin + 1:
            name = name[begin + 1 : end]
    return crc_hqx(name, 0) % SLOTS
