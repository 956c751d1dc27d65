"""Settings: what is read, what is refused, and that a message names the setting and never shows a secret."""

from __future__ import annotations

import pytest

from mesh.settings import Environment, ServerSettings, SettingError


def env(**values: str) -> Environment:
    return Environment({f"ROOKERY_{name}": value for name, value in values.items()})


def test_a_text_is_read_and_an_empty_one_counts_as_missing() -> None:
    assert env(A="x").text("A") == "x"
    assert env(A="").text("A", "default") == "default"
    with pytest.raises(SettingError, match="ROOKERY_A is not set"):
        env(A="").text("A")
    with pytest.raises(SettingError, match="ROOKERY_A is not set"):
        Environment({"A": "without the prefix"}).text("A")


@pytest.mark.parametrize("text", ["ten", "1.5", "1e3", "0x10", "10s"])
def test_a_number_must_be_whole(text: str) -> None:
    with pytest.raises(SettingError, match="ROOKERY_N is not a whole number"):
        env(N=text).number("N", 1)


def test_a_number_stays_within_its_bounds_which_belong_to_it() -> None:
    assert env(N="1").number("N", 5, least=1, most=3) == 1
    assert env(N="3").number("N", 5, least=1, most=3) == 3
    for text in ("0", "4", "-1"):
        with pytest.raises(SettingError, match="ROOKERY_N must be within 1 and 3"):
            env(N=text).number("N", 2, least=1, most=3)
    assert env().number("N", 7) == 7


def test_a_secret_has_16_bytes_and_is_not_shown_when_it_has_not() -> None:
    assert env(KEY="0123456789abcdef").secret("KEY") == b"0123456789abcdef"
    with pytest.raises(SettingError) as raised:
        env(KEY="hunter2-hunter2").secret("KEY")
    assert "ROOKERY_KEY" in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert len(env(KEY="é" * 8).secret("KEY")) == 16  # bytes count, not characters


def test_the_environment_of_the_process_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOKERY_A", "before")
    read = Environment.from_process()
    monkeypatch.setenv("ROOKERY_A", "after")
    assert read.text("A") == "before"


def test_a_server_needs_an_address_only() -> None:
    assert ServerSettings.read(env(LISTEN="unix:///s")) == ServerSettings("unix:///s", "", "info", 512, 10)
    with pytest.raises(SettingError, match="ROOKERY_LISTEN"):
        ServerSettings.read(env())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_CONCURRENT", "0"),
        ("DRAIN_SECONDS", "601"),
        ("DRAIN_SECONDS", "-1"),
        ("LOG_LEVEL", "verbose"),
        ("METRICS_LISTEN", "9100"),
        ("METRICS_LISTEN", "localhost:http"),
    ],
)
def test_a_senseless_server_setting_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"ROOKERY_{name}"):
        ServerSettings.read(env(LISTEN="unix:///s", **{name: value}))


def test_sensible_server_settings_are_taken() -> None:
    read = ServerSettings.read(
        env(LISTEN="localhost:1", METRICS_LISTEN="127.0.0.1:0", LOG_LEVEL="warning", DRAIN_SECONDS="0")
    )
    assert (read.metrics_listen, read.log_level, read.drain_seconds) == ("127.0.0.1:0", "warning", 0)
