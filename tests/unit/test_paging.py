"""Cursors are refused unless they are exactly what was given for this request; pages walk a list both ways."""

from __future__ import annotations

import asyncio
import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import InvalidArgument
from mesh.paging import Cursors, Page, Position, keyset_page

KEY = b"sixteen bytes at"
CURSORS = Cursors(KEY)
BINDING = "ListThings:7:exclude=a"


def refused(cursor: str, binding: str = BINDING, cursors: Cursors = CURSORS) -> bool:
    try:
        cursors.open(cursor, binding)
    except InvalidArgument as error:
        assert error.reason == "INVALID_CURSOR"
        assert [v.field for v in error.violations] == ["pagination_token"]
        return True
    return False


@given(position=st.binary(min_size=1, max_size=128), binding=st.text(max_size=40))
def test_a_cursor_gives_back_its_position(position: bytes, binding: str) -> None:
    cursor = CURSORS.seal(position, binding)
    assert CURSORS.open(cursor, binding) == position
    assert cursor.isascii()
    assert not set(cursor) & set("+/=&%# ")  # goes into a query string as it is


@given(position=st.binary(min_size=1, max_size=40), bit=st.integers(min_value=0))
def test_one_changed_bit_anywhere_is_refused(position: bytes, bit: int) -> None:
    cursor = CURSORS.seal(position, BINDING)
    raw = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    raw[bit // 8 % len(raw)] ^= 1 << bit % 8
    assert refused(base64.urlsafe_b64encode(raw).rstrip(b"=").decode())


@given(position=st.binary(min_size=1, max_size=40), place=st.integers(min_value=0), char=st.characters())
def test_one_changed_character_anywhere_is_refused(position: bytes, place: int, char: str) -> None:
    cursor = CURSORS.seal(position, BINDING)
    at = place % len(cursor)
    other = cursor[:at] + char + cursor[at + 1 :]
    assert refused(other) == (other != cursor)


def test_every_truncation_and_extension_is_refused() -> None:
    cursor = CURSORS.seal(b"position", BINDING)
    for end in range(len(cursor)):
        assert refused(cursor[:end])
    for more in ("A", "=", "==", "\n", " ", "AAAA", cursor):
        assert refused(cursor + more)
        assert refused(more + cursor)


def test_another_spelling_of_the_same_bytes_is_refused() -> None:
    position = next(bytes([n]) for n in range(256) if {"-", "_"} & set(CURSORS.seal(bytes([n]), BINDING)))
    cursor = CURSORS.seal(position, BINDING)
    assert refused(cursor.replace("-", "+").replace("_", "/"))


def test_a_cursor_of_another_request_person_or_key_is_refused() -> None:
    cursor = CURSORS.seal(b"position", BINDING)
    assert refused(cursor, "ListThings:8:exclude=a")
    assert refused(cursor, "ListThings:7:exclude=b")
    assert refused(cursor, "")
    assert refused(cursor, cursors=Cursors(b"another 16 bytes"))
    assert not refused(cursor, cursors=Cursors(KEY))  # another replica


def test_the_end_of_a_position_cannot_be_moved_into_the_binding() -> None:
    assert CURSORS.seal(b"ab", "c")[3:] != CURSORS.seal(b"a", "bc")[2:]
    tag = base64.urlsafe_b64decode(CURSORS.seal(b"ab", "c") + "==")[2:]
    assert refused(base64.urlsafe_b64encode(b"a" + tag).rstrip(b"=").decode(), "bc")


@pytest.mark.parametrize("cursor", ["", "A", "é" * 34, "\x00" * 34, "A" * 22, "A" * 34, "A" * 200_000, "null", "0"])
def test_what_never_was_a_cursor_is_refused_at_any_length(cursor: str) -> None:
    assert refused(cursor)


def test_a_key_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Cursors(b"short")


@given(key=st.integers(0, 2**63 - 1), newer=st.booleans())
def test_a_position_survives_packing(key: int, newer: bool) -> None:
    assert Position.unpack(Position(key, newer).pack()) == Position(key, newer)


class Table:
    """Rows by key, as a store gives them."""

    def __init__(self, keys: set[int]) -> None:
        self.keys = sorted(keys, reverse=True)

    async def fetch(self, before: int, after: int, limit: int) -> list[int]:
        if after:
            return [key for key in reversed(self.keys) if key > after][:limit]
        return [key for key in self.keys if not before or key < before][:limit]

    def page(self, position: Position, limit: int, hidden: set[int] | None = None) -> Page[int]:
        async def keep(rows: list[int]) -> list[int]:
            return [row for row in rows if row not in (hidden or set())]

        return asyncio.run(keyset_page(self.fetch, lambda row: row, position, limit, None if hidden is None else keep))


KEYS = st.sets(st.integers(2, 60), max_size=25)


@given(keys=KEYS, limit=st.integers(1, 7))
def test_walking_down_and_up_again_reads_each_row_once(keys: set[int], limit: int) -> None:
    table = Table(keys)
    position: Position | None = Position(0)
    down: list[int] = []
    pages = 0
    page: Page[int] = Page([], None, None)
    while position is not None:
        page = table.page(position, limit)
        assert len(page.rows) == limit or page.next is None
        assert (page.previous is None) == (pages == 0)  # the newest end is said, and said only there
        down += page.rows
        position = page.next
        pages += 1
    assert down == table.keys
    assert pages == max(1, -(-len(keys) // limit))  # no empty page at the end
    up = page.rows
    position = page.previous
    while position is not None:
        page = table.page(position, limit)
        up = page.rows + up
        position = page.previous
    assert up == table.keys


@given(keys=KEYS, new=st.sets(st.integers(61, 90), min_size=1, max_size=9), limit=st.integers(1, 5))
def test_rows_that_come_while_reading_shift_no_page_and_are_found_above(
    keys: set[int], new: set[int], limit: int
) -> None:
    table = Table(keys)
    first = table.page(Position(0), limit)
    table.keys = sorted(keys | new, reverse=True)
    if first.next is not None:
        second = table.page(first.next, limit)
        assert first.rows + second.rows == sorted(keys, reverse=True)[: 2 * limit]
        assert second.previous is not None
        assert table.page(second.previous, limit).rows == first.rows


@given(keys=KEYS, gone=KEYS, limit=st.integers(1, 5))
def test_rows_that_go_while_reading_lose_nobody_the_way(keys: set[int], gone: set[int], limit: int) -> None:
    table = Table(keys)
    first = table.page(Position(0), limit)
    if first.next is None:
        return
    table.keys = sorted(keys - gone, reverse=True)
    below = table.page(first.next, limit)
    assert below.rows == [key for key in table.keys if key < first.rows[-1]][:limit]
    assert below.previous is not None  # even when all of it went
    above = table.page(below.previous, 100)
    assert above.rows + below.rows == table.keys[: len(above.rows) + len(below.rows)]
    assert above.next is not None
    assert table.page(above.next, limit).rows == below.rows


@given(keys=KEYS, hidden=KEYS, limit=st.integers(1, 7))
def test_pages_are_full_however_much_is_hidden_and_end_where_it_ends(
    keys: set[int], hidden: set[int], limit: int
) -> None:
    table = Table(keys)
    shown = [key for key in table.keys if key not in hidden]
    position: Position | None = Position(0)
    down: list[int] = []
    page: Page[int] = Page([], None, None)
    while position is not None:
        page = table.page(position, limit, hidden)
        assert len(page.rows) == limit or page.next is None
        down += page.rows
        position = page.next
    assert down == shown
    up = page.rows
    position = page.previous
    while position is not None:
        page = table.page(position, limit, hidden)
        up = page.rows + up
        position = page.previous
    assert up == shown


def test_a_page_gives_up_after_thousands_of_hidden_rows_and_says_where_to_go_on() -> None:
    table = Table(set(range(1, 40_000)))
    page = table.page(Position(0), 1, hidden=set(range(2, 40_000)))
    assert page.rows == []
    assert page.next is not None
    walked = 1
    while page.next is not None:
        page = table.page(page.next, 1, hidden=set(range(2, 40_000)))
        walked += 1
    assert page.rows == [1]
    assert walked < 10
