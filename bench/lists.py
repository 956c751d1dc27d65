"""The writer of home lists in a process of its own: what `fanout` does about a planned batch, and nothing else.

It has the service's cache store and lists, its batches and its event loop, but no bus, so that what the bus costs can
be told from what the lists cost.

usage: python -m bench.lists CACHE_URL
"""

from __future__ import annotations

import sys

import uvloop

from bench.worker import Message, work
from mesh.cache.open import open_cache
from mesh.cache.store import CacheGone
from services.fanout.delivery import batches_of
from views.entry import Entry
from views.lists import home_lists


async def _main(url: str) -> None:
    store = open_cache(url)
    home = home_lists(store)
    planned: dict[int, list[list[int]]] = {}  # as `fanout` gets them from the bus

    async def write(command: Message) -> Message:
        first, followers, author = int(command["tweet"]), int(command["followers"]), int(command["author"])
        if followers not in planned:
            planned[followers] = batches_of(range(1, followers + 1))
        batches = planned[followers]
        written = again = 0
        for tweet in range(first, first + int(command["tweets"])):
            member = Entry(tweet, author).pack()
            for owners in batches:
                while True:
                    try:
                        written += await home.add(owners, member)
                        break
                    except CacheGone:  # too slow a machine; the bus would bring the batch again, too
                        again += 1
        return {"written": written, "again": again}

    try:
        await work(write)
    finally:
        await store.close()


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1]))
