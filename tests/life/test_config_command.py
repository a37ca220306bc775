"""``chroma config`` and the config file: every value with its source, every mistake with its place."""

from __future__ import annotations

from typing import Any

import pytest


def rows(life: Any, *argv: str) -> dict[str, tuple[Any, str]]:
    ran = life("config", "--json", *argv)
    assert ran.code == 0, ran.err
    return {one["name"]: (one["value"], one["source"]) for one in ran.objects}


def test_values_and_sources(life: Any, key: str) -> None:
    found = rows(life)
    assert found["config"] == (str(life.config), "CHROMA_CONFIG, no such file")
    assert found["state"] == (str(life.state), "CHROMA_STATE_DIR")
    assert found["base_url"] == (life.server.base_url, "CHROMA_BASE_URL")
    assert found["key"] == (f"SG_…{key[-4:]}", "SEGMIND_API_KEY")
    assert found["sandbox"] == (False, "built-in")


def test_the_key_is_never_shown(life: Any, key: str) -> None:
    for argv in (("config",), ("config", "--json"), ("config", "--debug", "-v")):
        ran = life(*argv)
        assert ran.code == 0
        assert key not in ran.out + ran.err


@pytest.mark.parametrize("short", ["x", "SG_1234", "abcdefgh"])
def test_a_short_key_is_not_shown_in_full(life: Any, monkeypatch: Any, short: str) -> None:
    monkeypatch.setenv("SEGMIND_API_KEY", short)
    assert short not in life("config").out.replace(short[:3], "", 1) or len(short) == 1
    assert short[-4:] not in str(rows(life)["key"][0]) or short == "x"


def test_no_key_and_no_network_are_needed(life: Any, monkeypatch: Any) -> None:
    monkeypatch.delenv("SEGMIND_API_KEY")
    value, source = rows(life)["key"]
    assert value is None
    assert "no API key" in source
    assert life.server.requests() == []


def test_option_before_environment_before_file_before_built_in(life: Any, monkeypatch: Any) -> None:
    life.config.write_text('base_url = "https://from.file/"\n')
    assert rows(life, "--base-url", "https://an.option")["base_url"] == ("https://an.option", "--base-url")
    assert rows(life)["base_url"][1] == "CHROMA_BASE_URL"
    monkeypatch.setenv("CHROMA_BASE_URL", "")
    assert rows(life)["base_url"] == ("https://from.file", str(life.config))
    life.config.write_text("")
    assert rows(life)["base_url"] == ("https://api.segmind.com", "built-in")


def test_the_file_shows(life: Any) -> None:
    life.config.write_text(
        "[defaults]\nsteps = 30\n[presets.mine]\ncfg = 9.5\nsampler = 'heun'\n[budget]\nday = 5\n"
    )
    found = rows(life)
    assert found["defaults.steps"] == (30, str(life.config))
    assert found["presets.mine.cfg"] == (9.5, str(life.config))
    assert found["presets.mine.sampler"] == ("heun", str(life.config))
    assert found["budget.day"] == (5, str(life.config))


def test_defaults_and_presets_are_used(life: Any) -> None:
    life.config.write_text("[defaults]\nsteps = 30\nseed = 4\n[presets.mine]\ncfg = 9.5\n")
    [call] = life("generate", "a fox", "-p", "mine", "--dry-run", "--json").objects
    assert (call["request"]["steps"], call["request"]["seed"], call["request"]["cfg"]) == (30, 4, 9.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[defaults]\nstpes = 30\n", ["[defaults]", "stpes", "steps"]),
        ("[presets.mine]\nsampelr = 'heun'\n", ["[presets.mine]", "sampelr", "sampler"]),
        ("[default]\nsteps = 30\n", ["default", "defaults"]),
        ("base_ulr = 'x'\n", ["base_ulr", "base_url"]),
        ("[budget]\ndya = 1\n", ["[budget]", "dya", "day"]),
        ("[budget]\nday = 'five'\n", ["[budget]", "day"]),
        ("[budget]\nday = -1\n", ["day"]),
        ("[budget]\nday = nan\n", ["day"]),
        ("defaults = 3\n", ["defaults"]),
        ("[presets]\nmine = 3\n", ["presets.mine"]),
        ("[defaults]\nsteps = 9\n", ["steps", "9", "10"]),
        ("[defaults]\nsteps = true\n", ["steps"]),
        ("a = 1\nb = \n", ["line 2"]),
        ("base_url = 7\n", ["base_url"]),
        ("base_url = 'http://far.example'\n", ["base_url"]),
    ],
)
def test_a_mistake_is_named_with_its_place(life: Any, monkeypatch: Any, text: str, words: list[str]) -> None:
    monkeypatch.delenv("CHROMA_BASE_URL")
    life.config.write_text(text)
    for argv in (("config",), ("generate", "a fox")):
        ran = life(*argv, "--json")
        assert (ran.code, ran.out) == (2, "")
        assert [word for word in words if word not in ran.error["message"]] == []
    assert life.server.requests() == []


@pytest.mark.parametrize("raw", [b"\xff\xfe\x00", b"x = '\x00'", b"[" * 5000])
def test_a_file_that_is_no_toml(life: Any, raw: bytes) -> None:
    life.config.write_bytes(raw)
    assert life("config").code == 2


def test_a_folder_in_place_of_the_file(life: Any) -> None:
    life.config.mkdir()
    assert life("config").code == 2


def test_a_byte_order_mark_is_no_mistake(life: Any) -> None:
    life.config.write_bytes("\ufeff[defaults]\nsteps = 30\n".encode())
    assert rows(life)["defaults.steps"][0] == 30


def test_the_sandbox(life: Any) -> None:
    found = rows(life, "--sandbox")
    assert found["sandbox"] == (True, "--sandbox")
    assert found["key"][0] is None
    assert found["ledger"][0] == str(life.state / "sandbox" / "jobs.sqlite3")


def test_no_ledger(life: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("CHROMA_NO_LEDGER", "yes")
    assert rows(life)["ledger"] == (None, "CHROMA_NO_LEDGER")
    monkeypatch.setenv("CHROMA_NO_LEDGER", "maybe")
    assert life("config").code == 2


def test_looking_makes_nothing(life: Any) -> None:
    life("config")
    assert not life.state.exists()
