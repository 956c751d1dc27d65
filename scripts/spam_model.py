"""Trains the model of spam (services/moderation/spam.py) and writes its weights: `python scripts/spam_model.py`.

The data are made here, by chance with a fixed seed: how people of several kinds post, and how spammers of several kinds
do. So the weights say what we believe spam to be, put into numbers that add up; `tests/data/moderation.tsv`, of which
nothing is used here, tells how far that goes. Logistic regression by gradient descent, with a ridge.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path

from services.moderation.spam import FILE, Signals, rate_of

_SEED = 2026
_EACH = 400
_ROUNDS = 1_500
_STEP = 1.5
_RIDGE = 0.002
Kind = Callable[[random.Random], Signals]


def _young(hours: float) -> float:
    return math.exp(-hours / 24)


def somebody(chance: random.Random) -> Signals:
    """Posts now and then, at times a link, a word such as `free`, or two hashtags."""
    return Signals(
        rate=rate_of(chance.choice((0, 0, 1, 2, 4))),
        crowd=chance.choice((0, 0, 0, 0.1)),
        young=_young(chance.uniform(0, 5_000)),
        doubt=chance.choice((0, 0, 0, 0.4)),
        links=chance.choice((0, 0, 0.25)),
        promo=chance.choice((0, 0, 0, 0.25, 0.5)),
        capitals=chance.uniform(0, 0.3),
    )


def newcomer(chance: random.Random) -> Signals:
    """Is new, greets everybody, tries things out, repeats themself."""
    return Signals(
        rate=rate_of(chance.randint(0, 15)),
        repeats=chance.choice((0, 0.1, 0.3, 0.6)),
        crowd=chance.choice((0, 0.1, 0.3)),
        young=_young(chance.uniform(0, 24)),
        links=chance.choice((0, 0.25)),
        promo=chance.choice((0, 0, 0.25)),
        people=chance.choice((0, 0, 0.25)),
        capitals=chance.uniform(0, 0.4),
    )


def busy(chance: random.Random) -> Signals:
    """Comments on a match as it goes, or lets a script post measurements: many posts, much alike."""
    return Signals(
        rate=rate_of(chance.randint(10, 60)),
        repeats=chance.choice((0.1, 0.5, 1.0)),
        crowd=chance.choice((0, 0.2, 1.0)),
        young=_young(chance.uniform(0, 5_000)),
        links=chance.choice((0, 0.25)),
        tags=chance.choice((0, 0, 0.125)),
        capitals=chance.uniform(0, 0.3),
    )


def shop(chance: random.Random) -> Signals:
    """Advertises its own things, as it may: a few times a day, in its own words."""
    return Signals(
        rate=rate_of(chance.randint(0, 3)),
        repeats=chance.choice((0, 0.1, 0.2)),
        young=_young(chance.uniform(100, 5_000)),
        doubt=chance.choice((0, 0, 0.4)),
        links=chance.choice((0.25, 0.5)),
        promo=chance.choice((0.25, 0.5, 0.75)),
        tags=chance.choice((0, 0.25)),
        capitals=chance.uniform(0, 0.4),
    )


def blaster(chance: random.Random) -> Signals:
    """Posts the same advertisement again and again."""
    return Signals(
        rate=rate_of(chance.randint(5, 60)),
        repeats=chance.choice((0.3, 0.5, 0.8, 1.0)),
        crowd=chance.choice((0, 0, 0.2)),
        young=_young(chance.uniform(0, 500)),
        doubt=chance.choice((0, 0.4, 0.5, 1.0)),
        links=chance.choice((0.25, 0.5)),
        promo=chance.choice((0.25, 0.5, 1.0)),
        tags=chance.choice((0, 0.25, 0.5)),
        capitals=chance.uniform(0, 0.8),
    )


def swarm(chance: random.Random) -> Signals:
    """One of many new accounts that say the same."""
    return Signals(
        rate=rate_of(chance.randint(0, 8)),
        repeats=chance.choice((0, 0.1, 0.3)),
        crowd=chance.choice((0.3, 0.5, 0.8, 1.0)),
        young=_young(chance.uniform(0, 72)),
        doubt=chance.choice((0.4, 0.5, 0.8, 1.0)),
        links=chance.choice((0.25, 0.25, 0.5)),
        promo=chance.choice((0.25, 0.5, 0.75, 1.0)),
        people=chance.choice((0, 0, 0.5)),
        capitals=chance.uniform(0, 0.6),
    )


def caller(chance: random.Random) -> Signals:
    """Calls many people by name to look at a link."""
    return Signals(
        rate=rate_of(chance.randint(5, 40)),
        repeats=chance.choice((0.3, 0.6, 1.0)),
        young=_young(chance.uniform(0, 200)),
        doubt=chance.choice((0, 0.4, 0.5, 1.0)),
        links=0.25,
        promo=chance.choice((0, 0.25, 0.5)),
        people=chance.uniform(0.4, 1),
        capitals=chance.uniform(0, 0.5),
    )


HONEST: tuple[Kind, ...] = (somebody, newcomer, busy, shop)
SPAMMING: tuple[Kind, ...] = (blaster, swarm, caller)


def train() -> tuple[float, dict[str, float]]:
    """(bias, weights)."""
    chance = random.Random(_SEED)
    names = list(Signals.__slots__)
    rows = [
        (kind(chance), label)
        for label, kinds in ((0.0, HONEST), (1.0, SPAMMING))
        for kind in kinds
        for _ in range(_EACH)
    ]
    points = [([float(getattr(signals, name)) for name in names], label) for signals, label in rows]
    bias, weights = 0.0, [0.0] * len(names)
    for _ in range(_ROUNDS):
        slope, slopes = 0.0, [0.0] * len(names)
        for values, label in points:
            total = bias + sum(weight * value for weight, value in zip(weights, values, strict=True))
            error = 1.0 / (1.0 + math.exp(-total)) - label
            slope += error
            for place, value in enumerate(values):
                slopes[place] += error * value
        bias -= _STEP * slope / len(points)
        weights = [
            weight - _STEP * (part / len(points) + _RIDGE * weight)
            for weight, part in zip(weights, slopes, strict=True)
        ]
    return bias, dict(zip(names, weights, strict=True))


def main(path: Path = FILE) -> None:
    """Writes the weights."""
    bias, weights = train()
    rounded = {name: round(weight, 3) for name, weight in weights.items()}
    path.write_text(json.dumps({"bias": round(bias, 3), "weights": rounded}, indent=1) + "\n")


if __name__ == "__main__":
    main()
