"""What is found in a text when it is posted, as it is read later."""

from __future__ import annotations

import pytest

from tests.e2e.harness import Account, eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def language_of(person: Account, tweet_id: int) -> str:
    found = await person.get(f"/2/tweets/{tweet_id}", **{"tweet.fields": "lang"})
    return str(found["data"]["lang"])


async def test_a_tweet_has_the_language_of_its_words(alice: Account, bob: Account) -> None:
    async def judged() -> None:  # the model may still be loading
        assert await language_of(alice, await alice.tweet("Good morning, what a lovely day for a walk")) == "en"

    await eventually(judged)
    for text, language in (
        ("Der Zug hat schon wieder zwanzig Minuten Verspätung", "de"),
        ("今日は天気がいいから散歩に行こう", "ja"),
        ("שוב שכחתי את המפתחות בבית", "he"),
        ("Terima kasih semuanya atas ucapan ulang tahunnya", "id"),
        (f"#hello #rookery {bob.id}", "qht"),
        (f"@{bob.username}", "qam"),
        ("https://example.com/an/address", "zxx"),
        ("😀 12:30", "und"),
    ):
        assert await language_of(bob, await alice.tweet(text)) == language, text


async def test_a_retweet_has_the_language_of_its_original(alice: Account, bob: Account) -> None:
    async def judged() -> int:
        tweet = await alice.tweet("Le marché est fermé demain, pensez à faire vos courses")
        assert await language_of(alice, tweet) == "fr"
        return tweet

    original = await eventually(judged)
    answer = await bob.request("POST", f"/2/users/{bob.id}/retweets", json={"tweet_id": str(original)})
    retweet = int(answer.json()["data"].get("rest_id") or (await bob.pages(f"/2/users/{bob.id}/tweets"))[0])
    assert await language_of(alice, retweet) == "fr"


async def test_entities_are_read_as_they_were_found(alice: Account, bob: Account) -> None:
    text = f"😀 RT@{bob.username} #日本 $ABC https://www.example.com/a/long/path/to/it です。example.com"
    tweet = await alice.tweet(text)
    found = (await bob.get(f"/2/tweets/{tweet}", **{"tweet.fields": "entities"}))["data"]["entities"]
    assert {kind: [text[each["start"] : each["end"]] for each in spans] for kind, spans in found.items()} == {
        "mentions": [f"@{bob.username}"],
        "hashtags": ["#日本"],
        "cashtags": ["$ABC"],
        "urls": ["https://www.example.com/a/long/path/to/it", "example.com"],
    }
    assert found["urls"][0]["display_url"] == "example.com/a/long/path/to…"
    assert found["mentions"][0]["id"] == str(bob.id)
