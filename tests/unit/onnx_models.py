"""Tiny classifiers in ONNX's format, written by hand: a model adds up what a table says of each token.

ONNX is protobuf (onnx/onnx.proto, version 8 of the format); only the members that are needed are written here.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path

FLOAT, INT64 = 1, 7
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(raw)) + raw


def _tensor(name: str, kind: int, dims: Sequence[int], raw: bytes) -> bytes:
    return b"".join(_number(1, dim) for dim in dims) + _number(2, kind) + _bytes(8, name) + _bytes(9, raw)


def _value(name: str, kind: int, dims: Sequence[str]) -> bytes:
    shape = b"".join(_bytes(1, _bytes(2, dim)) for dim in dims)
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, kind) + _bytes(2, shape)))


def _node(kind: str, inputs: Sequence[str], output: str, attributes: Sequence[tuple[str, int]] = ()) -> bytes:
    made = b"".join(_bytes(1, one) for one in inputs) + _bytes(2, output) + _bytes(4, kind)
    for name, value in attributes:
        made += _bytes(5, _bytes(1, name) + _number(3, value) + _number(20, 2))
    return made


def table_model(table: Sequence[Sequence[float]]) -> bytes:
    """A model whose logits are the sum of its tokens' rows."""
    width = len(table[0])
    raw = b"".join(struct.pack(f"<{width}f", *row) for row in table)
    graph = b"".join(
        [
            _bytes(1, _node("Gather", ["table", "input_ids"], "rows")),
            _bytes(1, _node("ReduceSum", ["rows", "axes"], "logits", [("keepdims", 0)])),
            _bytes(2, "tiny"),
            _bytes(5, _tensor("table", FLOAT, [len(table), width], raw)),
            _bytes(5, _tensor("axes", INT64, [1], struct.pack("<q", 1))),
            _bytes(11, _value("input_ids", INT64, ["batch", "tokens"])),
            _bytes(12, _value("logits", FLOAT, ["batch", "labels"])),
        ]
    )
    return _number(1, 8) + _bytes(7, graph) + _bytes(8, _bytes(1, "") + _number(2, 13))


def write_folder(folder: Path, words: dict[str, tuple[float, float]], *, unknown: Sequence[str] = ()) -> str:
    """A folder with a model of two labels, harmless and toxic; gives its URL.

    Args:
        folder: where.
        words: what each adds to both logits.
        unknown: words that the vocabulary has and the table has not: the model fails at them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = [*[(0.0, 0.0)] * len(SPECIAL), *words.values()]
    (folder / "model.onnx").write_bytes(table_model(table))
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *words, *unknown]) + "\n")
    (folder / "config.json").write_text(json.dumps({"id2label": {"0": "neutral", "1": "toxic"}}))
    return f"onnx://{folder}"
