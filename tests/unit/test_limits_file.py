"""Files of limits: what they mean, and what is said of wrong ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cli.edge import operations
from cli.profile import PROJECT
from services.ratelimit.domain import Entry, Limit, Limits, Standing, reset_seconds, tightest
from services.ratelimit.limits_file import LimitsFileError, load, parse

DEFAULT = PROJECT / "services" / "ratelimit" / "limits.yaml"
HEAD = "domain: edge\ndescriptors:\n"


def of(limits: Limits, *descriptor: tuple[str, str]) -> Limit | None:
    found = limits.of("edge", [Entry(*each) for each in descriptor])
    return found and found.limit


def read(text: str) -> Limits:
    limits, wrong = parse(text.encode())
    assert wrong == []
    return limits


def wrongs(text: str) -> dict[int, str]:
    found: dict[int, str] = {}
    for each in parse(text.encode())[1]:
        found[each.line] = f"{found.get(each.line, '')}{each.text}\n"
    return found


@pytest.mark.parametrize(
    ("rpc", "requests", "seconds"),
    [
        ("/rookery.tweet.v1.TweetService/CreateTweet", 300, 3 * 3600),
        ("/rookery.tweet.v1.EngagementService/Like", 1_000, 86_400),
        ("/rookery.graph.v1.GraphService/Follow", 400, 86_400),
        ("/rookery.user.v1.UserService/SearchUsers", 180, 900),
        ("/rookery.search.v1.SearchService/SearchRecent", 180, 900),
        ("/rookery.timeline.v1.TimelineService/GetHomeTimeline", 900, 900),
        ("/rookery.tweet.v1.TweetService/GetTweet", 450, 900),
    ],
)
def test_the_default_file_has_the_limits_of_the_product(rpc: str, requests: int, seconds: int) -> None:
    limit = of(load(DEFAULT), ("user", "1"), ("operation", rpc))
    assert limit is not None
    assert (limit.requests, limit.window_ms) == (requests, seconds * 1_000)


def test_the_default_file_names_operations_that_are_there() -> None:
    known = {operation.rpc for operation in operations((PROJECT / "gen" / "descriptors.pb").read_bytes())}
    named = {
        line.split("value: ")[1]
        for line in DEFAULT.read_text().splitlines()
        if "value: /" in line and not line.endswith("*")
    }
    assert len(named) > 10
    assert named <= known


def test_a_value_comes_before_a_beginning_and_a_beginning_before_the_rest() -> None:
    limits = read(
        HEAD
        + """
- key: path
  rate_limit: {unit: second, requests_per_unit: 1}
- key: path
  value: /a/*
  rate_limit: {unit: second, requests_per_unit: 2}
- key: path
  value: /a/b/*
  rate_limit: {unit: second, requests_per_unit: 3}
- key: path
  value: /a/b/c
  rate_limit: {unit: second, requests_per_unit: 4}
"""
    )
    asked = {"/x": 1, "/a/x": 2, "/a/b/x": 3, "/a/b/c": 4}
    found = {path: of(limits, ("path", path)) for path in asked}
    assert {path: limit.requests for path, limit in found.items() if limit} == asked
    assert of(limits, ("other", "/x")) is None
    assert of(limits, ("path", "/x"), ("more", "1")) is None  # limits hold where they stand


def test_each_value_has_a_count_of_its_own_and_limits_of_one_name_share_one() -> None:
    limits = read(
        HEAD
        + """
- key: who
  descriptors:
  - key: what
    value: a
    rate_limit: {name: both, unit: second, requests_per_unit: 1}
  - key: what
    value: b
    rate_limit: {name: both, unit: second, requests_per_unit: 1}
  - key: what
    rate_limit: {unit: second, requests_per_unit: 1}
"""
    )

    def count(who: str, what: str) -> str:
        found = limits.of("edge", [Entry("who", who), Entry("what", what)])
        assert found
        return found.name

    assert count("1", "a") == count("1", "b")
    assert len({count("1", "a"), count("2", "a"), count("1", "c"), count("1", "d"), count("2", "c")}) == 5


def test_units_and_multiples_make_a_window() -> None:
    for unit, seconds in {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}.items():
        text = f"{HEAD}- key: a\n  rate_limit: {{unit: {unit.upper()}, unit_multiplier: 2, requests_per_unit: 1}}\n"
        limit = of(read(text), ("a", "1"))
        assert limit is not None
        assert limit.window_ms == 2_000 * seconds


def test_a_limit_may_be_in_shadow_mode_or_not_be_one() -> None:
    limits = read(
        HEAD
        + """
- key: a
  shadow_mode: true
  rate_limit: {unit: second, requests_per_unit: 1}
- key: b
  rate_limit: {unlimited: true}
- key: c
"""
    )
    shadow = of(limits, ("a", "1"))
    assert shadow is not None
    assert shadow.shadow
    assert of(limits, ("b", "1")) is None
    assert of(limits, ("c", "1")) is None


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "empty"),
        ("domain: [", 1, "no YAML"),
        ("- 1", 1, "must be a mapping"),
        ("descriptors: []", 1, "`domain` is missing"),
        ("domain: a", 1, "`descriptors` is missing"),
        ("domain: a\ndescriptors: 3", 2, "must be a list"),
        (f"{HEAD}- value: a", 3, "`key` is missing"),
        (f"{HEAD}- key: a\n  rate_limits: 1", 4, "'rate_limits' is no member"),
        (f"{HEAD}- key: a\n- key: b\n- key: a", 5, "is there twice"),
        (f"{HEAD}- key: a\n  key: b", 4, "`key` is there twice"),
        (f"{HEAD}- key: a\n  value: b*\n- key: a\n  value: b*", 5, "is there twice"),
        (f"{HEAD}- key: a\n  rate_limit: 3", 4, "must be a mapping"),
        (f"{HEAD}- key: a\n  rate_limit:\n    unit: second", 5, "`requests_per_unit` is missing"),
        (f"{HEAD}- key: a\n  rate_limit:\n    requests_per_unit: 1", 5, "`unit` is missing"),
        (f"{HEAD}- key: a\n  rate_limit:\n    unit: month\n    requests_per_unit: 1", 5, "must be one of second"),
        (f"{HEAD}- key: a\n  rate_limit:\n    unit: day\n    requests_per_unit: -1", 6, "within 0 and 65536"),
        (f"{HEAD}- key: a\n  rate_limit:\n    unit: day\n    requests_per_unit: 1.5", 6, "a whole number"),
        (f"{HEAD}- key: a\n  rate_limit:\n    unit: day\n    requests_per_unit: '1'", 6, "a whole number"),
        (f"{HEAD}- key: a\n  rate_limit:\n    unit: day\n    requests_per_unit: 70000", 6, "within 0 and 65536"),
        (f"{HEAD}- key: a\n  rate_limit: {{unit: week, unit_multiplier: 3, requests_per_unit: 1}}", 4, "14 days"),
        (
            f"{HEAD}- key: a\n  rate_limit: {{unit: day, unit_multiplier: 0, requests_per_unit: 1}}",
            4,
            "unit_multiplier",
        ),
        (f"{HEAD}- key: a\n  rate_limit: {{unlimited: true, unit: day}}", 4, "says nothing where `unlimited`"),
        (f"{HEAD}- key: a\n  shadow_mode: perhaps", 4, "must be true or false"),
        (f"{HEAD}- key: a\n  shadow_mode: true", 4, "says nothing without"),
        (f"{HEAD}- key: ''", 3, "a text of 1 to"),
        (f"{HEAD}- key: a\n---\n{HEAD}- key: b", 5, "is there twice"),
        (
            f"{HEAD}- key: a\n  rate_limit: {{name: n, unit: day, requests_per_unit: 1}}\n"
            "- key: b\n  rate_limit: {name: n, unit: day, requests_per_unit: 2}",
            6,
            "must be equal",
        ),
        ("domain: &a [*a]", 1, "`domain` must be a text"),
        (HEAD + "- &x\n  key: a\n  descriptors: [*x]", 4, ""),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, line: int, said: str) -> None:
    found = wrongs(text)
    assert found
    if said:
        assert said in found.get(line, ""), found


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "limits.yaml"
    path.write_text(f"{HEAD}- key: a\n  rate_limit: {{unit: fortnight, requests_per_unit: x}}\n- nokey: 1\n")
    with pytest.raises(LimitsFileError) as error:
        load(path)
    lines = str(error.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{path}:{number}" for number in (4, 4, 5, 5)]


def test_the_command_checks_a_file_and_says_what_is_wrong(tmp_path: Path) -> None:
    def check(path: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cli.main", "limits", "check", str(path)]
        return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)

    good = check(DEFAULT)
    assert good.returncode == 0
    assert "edge > user > operation=/rookery.tweet.v1.TweetService/CreateTweet: 300 in 3 hours (shared as tweets)" in (
        good.stdout.splitlines()
    )
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(f"{HEAD}- key: a\n  rate_limit: {{unit: fortnight, requests_per_unit: 1}}\n")
    bad = check(wrong)
    assert bad.returncode == 1
    assert bad.stderr.startswith(f"{wrong}:4: unit 'fortnight' must be one of second, minute, hour, day, week")
    assert "Traceback" not in check(tmp_path / "missing.yaml").stderr


def test_a_caller_is_told_of_who_refuses_longest_or_else_of_who_has_least_left() -> None:
    wide, narrow = Limit("wide", 100, "day"), Limit("narrow", 10, "second")
    shadow = Limit("shadow", 1, "second", shadow=True)
    open_wide, open_narrow = Standing(False, 5, 9_000), Standing(False, 9, 1_001)
    assert tightest([(wide, open_wide), (narrow, open_narrow)]) == (wide, open_wide)
    full_narrow = Standing(True, 0, 1_001)
    assert tightest([(wide, open_wide), (narrow, full_narrow)]) == (narrow, full_narrow)
    full_wide = Standing(True, 0, 9_000)
    assert tightest([(wide, full_wide), (narrow, full_narrow)]) == (wide, full_wide)
    assert tightest([(shadow, Standing(True, 0, 10**6)), (wide, full_wide)]) == (wide, full_wide)
    assert tightest([]) is None
    assert reset_seconds(Standing(True, 0, 1_001)) == 2
    assert reset_seconds(Standing(True, 0, 2_000)) == 2
