"""What a text or a name is under its disguise: signs that look like Latin letters, digits in place of letters, letters
that are spaced out or repeated.

The tables have what is met in practice; Unicode's own list of confusables (UTS 39) has thousands, of which most are no
letters of any keyboard.
"""

from __future__ import annotations

import re
import unicodedata

# Cyrillic, Greek and other letters by the Latin ones that they look like.
_LOOKS_LIKE = {
    "a": "аɑαᴀ",
    "b": "ЬьƄʙ",
    "c": "сϲᴄ",
    "d": "ԁɗᴅ",
    "e": "еєεҽᴇ",
    "f": "ƒꜰ",
    "g": "ɡԍɢ",
    "h": "һʜн",
    "i": "іıɩιɪ",
    "j": "јʝᴊ",
    "k": "кκᴋ",
    "l": "ӏⅼʟ",
    "m": "мᴍ",
    "n": "пոɴ",
    "o": "оοσօᴏ",
    "p": "рρᴘ",
    "q": "ԛ",
    "r": "гʀ",
    "s": "ѕꜱ",
    "t": "тτᴛ",
    "u": "υսᴜ",
    "v": "νѵᴠ",
    "w": "ԝωᴡ",
    "x": "хχ",
    "y": "уүʏ",
    "z": "ᴢ",
}
_LATIN = str.maketrans({sign: latin for latin, signs in _LOOKS_LIKE.items() for sign in signs})
_LEET = str.maketrans("0134578@$!+", "oieastbasit")
_WORD = re.compile(r"[a-z0-9@$!+]+")
_LETTER, _IN_PLACE = re.compile(r"[a-z]"), re.compile(r"[0-9@$!+](?=[a-z0-9@$!+])")
_SPACED = re.compile(r"\b(?:\w[ .\-_*]){2,}\w\b")
_REPEATED = re.compile(r"(\w)\1{2,}")
_BETWEEN = re.compile(r"[ .\-_*]")
_STARRED = re.compile(r"(?<=\w)[*_.\-](?=\w)")
_INVISIBLE = re.compile(r"[\u00ad\u200b-\u200f\u2060-\u2064\ufeff\u202a-\u202e]")


def skeleton(text: str) -> str:
    """The text in lower case with Latin letters in place of those that look like them, and without invisible signs."""
    plain = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).casefold()
    if plain.isascii():
        return plain
    marked = unicodedata.normalize("NFKD", plain.translate(_LATIN))
    return "".join(sign for sign in marked if not unicodedata.combining(sign))


def undisguised(text: str) -> str:
    """What a reader takes a text for: `skeleton`, and words put together and spelled out."""
    plain = skeleton(text)
    plain = _SPACED.sub(lambda found: _BETWEEN.sub("", found.group()), plain)
    plain = _STARRED.sub("", plain)
    plain = _WORD.sub(lambda found: _spelled(found.group()), plain)
    return _REPEATED.sub(r"\1", plain)


def _spelled(word: str) -> str:
    """A word with letters for the signs within it; numbers, and signs that end a word, stay."""
    return word.translate(_LEET) if _LETTER.search(word) and _IN_PLACE.search(word) else word
