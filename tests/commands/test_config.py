"""``chroma config`` and the config file: every value with its source, every mistake with its place."""

from __future__ import annotations

import pytest
from kit import KEY

pytestmark = pytest.mark.usefixtures("gateway")


@pytest.fixture
def rows(chroma):
    """``rows("--sandbox")`` is each value and where it came from."""

    def look(*argv: str) -> dict[str, tuple[object, str]]:
        ended = chroma("config", "--json", *argv)
        assert ended.code == 0, ended.said
        return {one["name"]: (one["value"], one["source"]) for one in ended.json}

    return look


@pytest.fixture
def path(tmp_path):
    return tmp_path / "config.toml"


def test_values_and_sources(state, path, rows, gateway) -> None:
    found = rows()
    assert found["config"] == (str(path), "CHROMA_CONFIG, no such file")
    assert found["state"] == (str(state), "CHROMA_STATE_DIR")
    assert found["base_url"] == (gateway.base_url, "CHROMA_BASE_URL")
    assert found["key"] == (f"SG_…{KEY[-4:]}", "SEGMIND_API_KEY")
    assert found["sandbox"] == (False, "built-in")


def test_the_key_is_never_shown(chroma) -> None:
    for argv in (("config",), ("config", "--json"), ("config", "--debug", "-v")):
        ended = chroma(*argv)
        assert ended.code == 0
        assert KEY not in ended.out + ended.err


@pytest.mark.parametrize("short", ["x", "SG_1234", "abcdefgh"])
def test_a_short_key_is_not_shown_in_full(rows, chroma, monkeypatch, short) -> None:
    monkeypatch.setenv("SEGMIND_API_KEY", short)
    assert short not in chroma("config").out.replace(short[:3], "", 1) or len(short) == 1
    assert short[-4:] not in str(rows()["key"][0]) or short == "x"


def test_no_key_and_no_network_are_needed(rows, gateway, monkeypatch) -> None:
    monkeypatch.delenv("SEGMIND_API_KEY")
    value, source = rows()["key"]
    assert value is None
    assert "no API key" in source
    assert gateway.requests() == []


def test_option_before_environment_before_file_before_built_in(path, rows, monkeypatch) -> None:
    path.write_text('base_url = "https://from.file/"\n')
    assert rows("--base-url", "https://an.option")["base_url"] == ("https://an.option", "--base-url")
    assert rows()["base_url"][1] == "CHROMA_BASE_URL"
    monkeypatch.setenv("CHROMA_BASE_URL", "")
    assert rows()["base_url"] == ("https://from.file", str(path))
    path.write_text("")
    assert rows()["base_url"] == ("https://api.segmind.com", "built-in")


def test_the_file_shows(path, rows) -> None:
    path.write_text(
        "[defaults]\nsteps = 30\n[presets.mine]\ncfg = 9.5\nsampler = 'heun'\n[budget]\nday = 5\n"
    )
    found = rows()
    assert found["defaults.steps"] == (30, str(path))
    assert found["presets.mine.cfg"] == (9.5, str(path))
    assert found["presets.mine.sampler"] == ("heun", str(path))
    assert found["budget.day"] == (5, str(path))


def test_defaults_and_presets_are_used(path, chroma) -> None:
    path.write_text("[defaults]\nsteps = 30\nseed = 4\n[presets.mine]\ncfg = 9.5\n")
    [call] = chroma("generate", "a fox", "-p", "mine", "--dry-run", "--json").json
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
def test_a_mistake_is_named_with_its_place(path, chroma, gateway, monkeypatch, text, words) -> None:
    monkeypatch.delenv("CHROMA_BASE_URL")
    path.write_text(text)
    for argv in (("config",), ("generate", "a fox")):
        ended = chroma(*argv, "--json")
        assert (ended.code, ended.out) == (2, "")
        assert [word for word in words if word not in ended.error["message"]] == []
    assert gateway.requests() == []


@pytest.mark.parametrize("raw", [b"\xff\xfe\x00", b"x = '\x00'", b"[" * 5000])
def test_a_file_that_is_no_toml(path, chroma, raw) -> None:
    path.write_bytes(raw)
    assert chroma("config").code == 2


def test_a_folder_in_place_of_the_file(path, chroma) -> None:
    path.mkdir()
    assert chroma("config").code == 2


def test_a_byte_order_mark_is_no_mistake(path, rows) -> None:
    path.write_bytes("\ufeff[defaults]\nsteps = 30\n".encode())
    assert rows()["defaults.steps"][0] == 30


def test_the_sandbox(state, rows) -> None:
    found = rows("--sandbox")
    assert found["sandbox"] == (True, "--sandbox")
    assert found["key"][0] is None
    assert found["ledger"][0] == str(state / "sandbox" / "jobs.sqlite3")


def test_no_ledger(rows, chroma, monkeypatch) -> None:
    monkeypatch.setenv("CHROMA_NO_LEDGER", "yes")
    assert rows()["ledger"] == (None, "CHROMA_NO_LEDGER")
    monkeypatch.setenv("CHROMA_NO_LEDGER", "maybe")
    assert chroma("config").code == 2


def test_looking_makes_nothing(state, chroma) -> None:
    chroma("config")
    assert not state.exists()
