"""Where every value comes from, the key's care, the rule for addresses, and the config file."""

from __future__ import annotations

import os
import string
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chroma_cli import settings as module
from chroma_cli.errors import AuthError, ConfigError, ExitCode, KeyMissing, UsageError
from chroma_cli.settings import Key, Settings, clean_key, gateway_address, is_loopback, read_config

KEY = "SG_0123456789abcdef"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def found(tmp_path: Path, **env: str) -> Settings:
    """Settings with an isolated config and state, and these variables."""
    places = {"CHROMA_CONFIG": str(tmp_path / "config.toml"), "CHROMA_STATE_DIR": str(tmp_path / "state")}
    return Settings({**places, **env})


# --- sources ---------------------------------------------------------------------------------------------


def test_empty_variables_count_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMA_BASE_URL", "")
    monkeypatch.setenv("CHROMA_SANDBOX", "1")
    env = module.environment()
    assert "CHROMA_BASE_URL" not in env
    assert env["CHROMA_SANDBOX"] == "1"


def test_the_gateway_comes_from_option_environment_config_default(tmp_path: Path, config: Path) -> None:
    assert found(tmp_path).base_url == module.Setting("https://api.segmind.com", "built-in")
    config.write_text('base_url = "https://config.example/"\n')
    assert found(tmp_path).base_url == module.Setting("https://config.example", str(config))
    env = {"CHROMA_BASE_URL": "https://env.example"}
    assert found(tmp_path, **env).base_url == module.Setting("https://env.example", "CHROMA_BASE_URL")
    option = Settings({**env, "CHROMA_CONFIG": str(config)}, base_url="https://option.example")
    assert option.base_url == module.Setting("https://option.example", "--base-url")


@pytest.mark.parametrize(
    ("word", "value"),
    [("1", True), ("true", True), ("Yes", True), ("0", False), ("off", False), (" ", False)],
)
def test_switches(tmp_path: Path, word: str, value: bool) -> None:
    one = found(tmp_path, CHROMA_SANDBOX=word, CHROMA_NO_LEDGER=word)
    assert one.sandbox.value is value
    assert one.no_ledger.value is value


@pytest.mark.parametrize("name", ["CHROMA_SANDBOX", "CHROMA_NO_LEDGER"])
def test_a_switch_that_is_neither_is_refused(tmp_path: Path, name: str) -> None:
    one = found(tmp_path, **{name: "perhaps"})
    with pytest.raises(UsageError, match=name):
        _ = one.sandbox, one.no_ledger


def test_sandbox_and_base_url_exclude_each_other(tmp_path: Path) -> None:
    for env, option in (({"CHROMA_SANDBOX": "1"}, None), ({}, True)):
        one = Settings(env, base_url="http://127.0.0.1:1", sandbox=option)
        with pytest.raises(UsageError, match="--base-url"):
            _ = one.sandbox


def test_the_sandbox_goes_before_a_gateway_of_the_environment(tmp_path: Path) -> None:
    one = Settings({"CHROMA_BASE_URL": "https://x.example"}, sandbox=True)
    assert one.sandbox == module.Setting(True, "--sandbox")


def test_places(tmp_path: Path) -> None:
    one = found(tmp_path)
    assert one.config_path.value == tmp_path / "config.toml"
    assert one.ledger_path == tmp_path / "state" / "jobs.sqlite3"
    boxed = found(tmp_path, CHROMA_SANDBOX="1")
    assert boxed.ledger_path == tmp_path / "state" / "sandbox" / "jobs.sqlite3"


def test_places_without_variables_are_the_systems() -> None:
    one = Settings({})
    assert one.state_dir.is_absolute()
    assert one.config_path.value.name == "config.toml"
    assert "chroma" in str(one.state_dir).casefold()
    assert (one.state_source, one.config_path.source) == ("built-in", "built-in")


def test_relative_places_mean_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one = Settings({"CHROMA_STATE_DIR": "s", "CHROMA_CONFIG": "c.toml"})
    assert one.state_dir == tmp_path / "s"
    assert one.config_path.value == tmp_path / "c.toml"


@pytest.mark.parametrize(
    ("env", "look"),
    [
        ({}, (False, False, False, False)),
        ({"NO_COLOR": "0"}, (True, False, False, False)),
        ({"FORCE_COLOR": "1"}, (False, True, False, False)),
        ({"FORCE_COLOR": "0"}, (False, False, False, False)),
        ({"TERM": "dumb"}, (False, False, True, False)),
        ({"CI": "true"}, (False, False, False, True)),
        ({"CI": "false"}, (False, False, False, False)),
    ],
)
def test_the_look(env: dict[str, str], look: tuple[bool, ...]) -> None:
    one = Settings(env).terminal
    assert (one.no_color, one.force_color, one.dumb, one.ci) == look


def test_certificate_bundles_of_the_environment() -> None:
    assert Settings({}).ca_bundle is None
    assert Settings({"CURL_CA_BUNDLE": "b"}).ca_bundle == "b"
    assert Settings({"CURL_CA_BUNDLE": "b", "REQUESTS_CA_BUNDLE": "a"}).ca_bundle == "a"


# --- the key ---------------------------------------------------------------------------------------------


def test_the_variable_goes_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("SG_from_file\n")
    file = str(tmp_path / "key")
    assert found(tmp_path, SEGMIND_API_KEY=f" {KEY}\r\n").key.text == KEY
    assert found(tmp_path, SEGMIND_API_KEY=KEY, SEGMIND_API_KEY_FILE=file).key.text == KEY
    from_file = found(tmp_path, SEGMIND_API_KEY_FILE=file).key
    assert from_file.text == "SG_from_file"
    assert file in from_file.source
    assert found(tmp_path, SEGMIND_API_KEY="  ", SEGMIND_API_KEY_FILE=file).key.text == "SG_from_file"


def test_no_key_anywhere_names_the_ways(tmp_path: Path) -> None:
    with pytest.raises(KeyMissing) as caught:
        _ = found(tmp_path).key
    assert caught.value.exit_code is ExitCode.AUTH
    for way in ("SEGMIND_API_KEY", "SEGMIND_API_KEY_FILE", "--sandbox"):
        assert way in str(caught.value.hint)


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xef\xbb\xbf"])
def test_a_key_file_without_a_key(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(KeyMissing, match="key"):
        _ = found(tmp_path, SEGMIND_API_KEY_FILE=str(file)).key


def test_a_key_file_with_a_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"\xef\xbb\xbf" + KEY.encode() + b"\r\n")
    assert found(tmp_path, SEGMIND_API_KEY_FILE=str(file)).key.text == KEY


def test_a_folder_is_no_key_file(tmp_path: Path) -> None:
    with pytest.raises(AuthError):
        _ = found(tmp_path, SEGMIND_API_KEY_FILE=str(tmp_path)).key


@pytest.mark.parametrize(
    "text", ["SG_söcret", "SG_\x1b[31m", "one\ntwo", "a\tb", "\ud800", "SG_secret\x00", "k\x7f"]
)
def test_a_key_with_anything_but_printable_ascii_is_refused_without_showing_it(
    tmp_path: Path, text: str
) -> None:
    with pytest.raises(AuthError) as caught:
        _ = found(tmp_path, SEGMIND_API_KEY=text).key
    assert text not in caught.value.message + str(caught.value.hint)
    assert "SEGMIND_API_KEY" in caught.value.message


def test_the_sandbox_never_takes_a_real_key(tmp_path: Path) -> None:
    assert found(tmp_path, SEGMIND_API_KEY=KEY, CHROMA_SANDBOX="1").key.text != KEY


def test_a_key_is_masked_and_absent_from_reprs() -> None:
    assert Key(KEY, "x").masked == "SG_…cdef"
    assert KEY not in repr(Key(KEY, "x"))
    assert Key("SG_12", "x").masked == "SG_…"
    assert Key("another-kind-of-key", "x").masked == "…-key"


@given(st.text(string.printable, min_size=1).filter(lambda text: text.strip()))
def test_white_space_around_a_key_is_stripped_and_nothing_else(text: str) -> None:
    try:
        cleaned = clean_key(text, "x")
    except AuthError:
        assert not text.strip().isprintable()
    else:
        assert cleaned == text.strip()
        assert clean_key(f"\n\t{text} \r\n", "x") == cleaned


# --- addresses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("https://api.segmind.com", "https://api.segmind.com"),
        ("https://api.segmind.com/", "https://api.segmind.com"),
        (" https://API.Segmind.com:443// ", "https://api.segmind.com"),
        ("HTTPS://x.example:8443/base/", "https://x.example:8443/base"),
        ("https://10.0.0.1", "https://10.0.0.1"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.9.8.7", "http://127.9.8.7"),
        ("http://localhost:80", "http://localhost"),
        ("http://LOCALHOST.:81", "http://localhost:81"),
        ("http://[::1]:8000/v", "http://[::1]:8000/v"),
    ],
)
def test_addresses_have_one_spelling(text: str, address: str) -> None:
    assert gateway_address(text, "--base-url") == address
    assert gateway_address(address, "--base-url") == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "api.segmind.com",
        "//api.segmind.com",
        "ftp://api.segmind.com",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://",
        "https:///path",
        "https://.",
        "https://:443",
        "http://api.segmind.com",
        "http://192.168.0.1",
        "http://10.0.0.1:8000",
        "http://0.0.0.0:8000",
        "http://169.254.1.1",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "http://127.0.0.1@example.com",
        "http://example.com#@127.0.0.1",
        "http://example.com\\@127.0.0.1",
        "http://2130706433",
        "http://127.1",
        "http://0x7f000001",
        "http://[::ffff:10.0.0.1]",
        "https://user@api.segmind.com",
        "https://user:word@api.segmind.com",
        "https://@api.segmind.com",
        "https://api.segmind.com?x=1",
        "https://api.segmind.com/?",
        "https://api.segmind.com/#top",
        "https://api.segmind.com#",
        "https://api.segmind.com:port",
        "https://api.segmind.com:99999",
        "https://api.segmind.com:-1",
        "https://api.segmind.com:0",
        "https://api..segmind.com",
        "https://*",
        "https://-",
        "https://exa<mple.com",
        "https://a%00b",
        "https://[fe80::1%25eth0]",
        "https://" + "a" * 64 + ".com",
        "https://" + "a.bc" * 80,
        "https://[::1",
        "https://api.seg mind.com",
        "https://api.segmind.com\n.example",
        "https://api.segmind.com\x00",
        "https://api.segmind.com\x1b[31m",
        "https://\u0430pi.segmind.com",
        "https://api.segmind\u2028.com",
        "\ud800",
    ],
)
def test_addresses_that_a_key_must_not_be_sent_to(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        gateway_address(text, "--base-url")
    assert caught.value.exit_code is ExitCode.USAGE
    assert caught.value.message.startswith("--base-url: ")
    assert caught.value.message.isprintable()


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        gateway_address("https://me:hunter2@api.segmind.com", "--base-url")
    assert "hunter2" not in caught.value.message


@given(
    st.text(max_size=40),
    st.sampled_from(["", "http://", "https://", "http://127.0.0.1", "https://x.example"]),
)
def test_any_text_is_an_address_or_is_refused(text: str, start: str) -> None:
    try:
        address = gateway_address(start + text, "x")
    except UsageError:
        return
    parts = urlsplit(address)
    assert not set("@?#\\ ") & set(address)
    assert address.isascii()
    assert parts.scheme == "https" or (parts.scheme == "http" and is_loopback(str(parts.hostname)))
    assert gateway_address(address, "x") == address


# --- the config file -------------------------------------------------------------------------------------


def test_a_missing_config_is_an_empty_one(config: Path) -> None:
    one = read_config(config)
    assert not one.exists
    assert (one.base_url, one.defaults, one.presets, one.budget) == (None, {}, {}, {})


def test_a_config_file(config: Path) -> None:
    config.write_bytes(
        b'\xef\xbb\xbfbase_url = "https://x.example"\r\n[defaults]\r\nsteps = 20\r\n'
        b"[presets.mine]\r\ncfg = 3\r\n[budget]\r\nday = 1.5\r\n"
    )
    one = read_config(config)
    assert one.exists
    assert one.base_url == "https://x.example"
    assert one.defaults == {"steps": 20}
    assert one.presets == {"mine": {"cfg": 3}}
    assert one.budget == {"day": 1.5}


def refusal(config: Path, text: str | bytes) -> list[str]:
    config.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        read_config(config)
    assert caught.value.exit_code is ExitCode.USAGE
    assert str(config) in caught.value.message
    return caught.value.message.splitlines()


def test_a_syntax_error_is_told_with_its_line(config: Path) -> None:
    [line] = refusal(config, "[defaults]\nsteps = 20\ncfg = = 3\n")
    assert "line 3" in line


@pytest.mark.parametrize("text", ["[defaults", "a = 1\na = 2\n", "x = " + "[" * 5000, "\x00", "steps: 20"])
def test_what_is_no_toml(config: Path, text: str) -> None:
    [line] = refusal(config, text)
    assert "TOML" in line


def test_what_is_no_utf8(config: Path) -> None:
    [line] = refusal(config, b'base_url = "\xff"')
    assert "UTF-8" in line


def test_every_wrong_key_is_told_with_a_suggestion(config: Path) -> None:
    lines = refusal(config, 'base-url = "https://x.example"\ndefault = {}\n[budget]\ndaily = 1\nmonht = 2\n')
    assert len(lines) == 4
    assert "'base-url'" in lines[0]
    assert lines[0].endswith("Did you mean 'base_url'?")
    assert lines[1].endswith("Did you mean 'defaults'?")
    assert "[budget]" in lines[2]
    assert "'daily'" in lines[2]
    assert lines[3].endswith("Did you mean 'month'?")


@pytest.mark.parametrize(
    "text",
    ["base_url = 3", "defaults = 3", "presets = []", "[presets]\nmine = 3", "budget = true"]
    + ["[budget]\nday = -1", "[budget]\nday = nan", "[budget]\nday = true", '[budget]\nday = "1"'],
)
def test_values_of_the_wrong_kind(config: Path, text: str) -> None:
    refusal(config, text)


def test_a_folder_is_no_config_file(config: Path) -> None:
    config.mkdir()
    with pytest.raises(ConfigError, match=r"config\.toml"):
        read_config(config)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_config_file(config: Path) -> None:
    config.write_text("")
    config.chmod(0)
    with pytest.raises(ConfigError):
        read_config(config)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_config_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(data)
    try:
        assert read_config(path).exists
    except ConfigError as error:
        assert str(path) in error.message
