"""Sample people and texts for `rookery seed`: the same number gives the same name, the same chance the same text."""

from __future__ import annotations

import random

_FIRST = (
    *("ada", "alan", "amina", "ana", "anders", "aoife", "bela", "bjorn", "carlos", "chen", "chiara", "dana", "devi"),
    *("diego", "edsger", "elif", "emeka", "farah", "femi", "grace", "hana", "hugo", "ines", "ivan", "jamal", "jonas"),
    *("kaito", "katya", "lars", "leila", "lin", "lucia", "mateo", "mei", "milan", "nadia", "niko", "noor", "olga"),
    *("omar", "paulo", "priya", "quinn", "rafael", "rosa", "sami", "sofia", "tariq", "uma", "vera", "wes", "yara"),
    *("yusuf", "zoe"),
)
_LAST = (
    *("Abara", "Almeida", "Berg", "Castro", "Dahl", "Endo", "Farouk", "Gupta", "Haddad", "Ito", "Jansen", "Kaya"),
    *("Lind", "Moreau", "Novak", "Okafor", "Petrov", "Quispe", "Rossi", "Sato", "Tanaka", "Usman", "Varga", "Wolf"),
    *("Xu", "Young", "Zeman"),
)
_TOPICS = (
    *("python", "grpc", "coffee", "cycling", "gardening", "jazz", "running", "astronomy", "baking", "chess"),
    *("photography", "birding", "climbing", "typography", "opensource", "sailing", "synths", "maps"),
)
_TEMPLATES = (
    "Good morning! ☕ First thing today: {topic}.",
    "Three hours of {topic} and I regret nothing. #{tag}",
    "Does anyone here have a good introduction to {topic}? Asking for a friend 😅",
    "@{mention} you were right about {topic}.",
    "Wrote down what I learned about {topic} this year: https://example.com/{tag}/{number} #{tag}",
    "Unpopular opinion: {topic} is better on a rainy day 🌧️",
    "Day {number} of #{tag}. Still going.",
    "@{mention} @{other} see you at the {topic} meetup on Thursday?",
    "{topic}, but make it reproducible.",
    "TIL that half of {topic} is patience and the other half is reading the manual. #{tag} #til",
    "“Simple things should be simple, complex things should be possible.” Still true for {topic}.",
    "New photos from the weekend, mostly {topic} 📷 example.org/p/{number}",
    "Finally fixed it!! 🎉🎉 It was the clock. It is always the clock. #{tag}",
    "Reading list for the train: one paper on {topic}, two detective novels, zero e-mails.",
    "今日は{topic}の日 🌸 #{tag}",
    "¿Quién más está con #{tag} hoy? Leo todo lo que me manden 🙌",
    "Long day. Soup, {topic}, sleep.",
    "PSA: the {topic} calendar for next month is up → https://example.net/events?month={number} cc @{mention}",
    "I keep {number} tabs open about {topic} and I will read every one of them. Probably.",
    "Naïve question about {topic}: why do we still do it this way?",
)


def username(number: int) -> str:
    """Handle of person `number`; 15 characters at most for numbers below 100 million."""
    return f"{_FIRST[number % len(_FIRST)]}_{number}"


def display_name(number: int) -> str:
    """Name shown of person `number`."""
    first = _FIRST[number % len(_FIRST)].capitalize()
    return f"{first} {_LAST[(number // len(_FIRST) + number) % len(_LAST)]}"


def tweet_text(chance: random.Random, people: int) -> str:
    """Something that one of `people` people might write: hashtags, mentions, links, emoji, several scripts."""
    topic = chance.choice(_TOPICS)
    return chance.choice(_TEMPLATES).format(
        topic=topic,
        tag=topic if chance.random() < 0.7 else chance.choice(_TOPICS).capitalize(),
        mention=username(chance.randrange(people)),
        other=username(chance.randrange(people)),
        number=chance.randrange(1, 1000),
    )
