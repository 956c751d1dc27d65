"""Unmodified tweepy, sync and async, against the edge: only the host of its requests is another."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import requests
import tweepy
from requests.adapters import HTTPAdapter
from tweepy.asynchronous import AsyncClient, AsyncPaginator

from tests.called import CALLED
from tests.e2e.harness import Account

HOST = "https://api.twitter.com"
"""Where tweepy thinks that it sends its requests."""


class ToEdge(HTTPAdapter):
    """Sends what is meant for the X API to the edge."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def send(self, request: requests.PreparedRequest, *args: Any, **more: Any) -> requests.Response:
        assert request.url is not None
        request.url = self._url + request.url.removeprefix(HOST)
        answer = super().send(request, *args, **more)
        CALLED.note(str(request.method), request.url, answer.status_code)
        return answer


class Tweepy:
    """One person's tweepy client, sync or async, behind one face: every method gives something to await."""

    def __init__(self, client: tweepy.Client | AsyncClient) -> None:
        self.client = client

    async def __call__(self, method: str, *arguments: Any, **more: Any) -> Any:
        call = getattr(self.client, method)
        if inspect.iscoroutinefunction(call):
            return await call(*arguments, **more)
        return await asyncio.to_thread(call, *arguments, **more)  # as a program without asyncio would

    async def all(self, method: str, *arguments: Any, **more: Any) -> list[Any]:
        """All pages, by tweepy's own paginator."""
        call = getattr(self.client, method)
        if isinstance(self.client, AsyncClient):
            return [response async for response in AsyncPaginator(call, *arguments, **more)]
        return await asyncio.to_thread(lambda: list(tweepy.Paginator(call, *arguments, **more)))


Maker = Callable[[Account], Tweepy]
