"""``chroma login`` and ``logout``: a key is checked, kept from others, and used nowhere else."""

from __future__ import annotations

import json
import os
import sys
import types

import pytest
from kit import RESET, Gateway, Reply

NEW = "SG_ffffeeee00001111"
NEW_BYTES = NEW.encode()


@pytest.fixture(autouse=True)
def nothing_stored(gateway, clock, monkeypatch):
    """A machine without a key, and without a keyring."""
    monkeypatch.delenv("SEGMIND_API_KEY")
    monkeypatch.setitem(sys.modules, "keyring", None)


@pytest.fixture
def path(state):
    return state / "credentials.json"


@pytest.fixture
def stored(path):
    return lambda: json.loads(path.read_bytes())


@pytest.fixture
def login(chroma):
    return lambda *argv, key=NEW_BYTES: chroma("login", "--stdin", *argv, stdin=key)


class FakeKeyring(types.ModuleType):
    """The three calls of the keyring package, and the backend that it would choose."""

    def __init__(self, priority: float = 5, broken: bool = False) -> None:
        super().__init__("keyring")
        self.kept: dict[tuple[str, str], str] = {}
        self.broken = broken
        self.backend = types.SimpleNamespace(priority=priority)

    def get_keyring(self) -> object:
        return self.backend

    def _check(self) -> None:
        if self.broken:
            raise RuntimeError("the session bus went away")

    def get_password(self, service: str, name: str) -> str | None:
        self._check()
        return self.kept.get((service, name))

    def set_password(self, service: str, name: str, text: str) -> None:
        self._check()
        self.kept[service, name] = text

    def delete_password(self, service: str, name: str) -> None:
        self._check()
        del self.kept[service, name]


def use(monkeypatch, ring: FakeKeyring) -> FakeKeyring:
    monkeypatch.setitem(sys.modules, "keyring", ring)
    return ring


# --- checking --------------------------------------------------------------------------------------------


def test_a_good_key_is_checked_with_the_free_route_and_stored(stored, login, gateway) -> None:
    ended = login(key=f"  {NEW}\n".encode())
    assert ended.code == 0
    [call] = gateway.requests()
    assert (call.method, call.route, call.headers["x-api-key"]) == ("GET", "credits", NEW)
    assert stored() == {gateway.base_url: NEW}
    assert NEW not in ended.out + ended.err
    assert "SG_…1111" in ended.out


def test_json(login, gateway) -> None:
    ended = login("--json")
    [found] = ended.json
    assert (found["schema"], found["key"], found["base_url"]) == (1, "SG_…1111", gateway.base_url)
    assert NEW not in ended.out + ended.err


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_the_file_is_for_its_owner_alone_whatever_the_umask(login, state, path) -> None:
    before = os.umask(0)
    try:
        login()
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in state.iterdir()] == ["credentials.json"]


@pytest.mark.parametrize(("status", "code"), [(401, 3), (403, 3), (405, 2), (500, 9)])
def test_a_key_that_was_not_confirmed_is_not_stored(login, path, gateway, status, code) -> None:
    gateway.on("credits", Reply.error(status, "no"), always=True)
    ended = login("--json")
    assert (ended.code, ended.error["exit_code"]) == (code, code)
    assert not path.exists()


def test_no_network_no_login(login, path, gateway) -> None:
    gateway.on("credits", RESET, always=True)
    assert login().code == 9
    assert not path.exists()


def test_no_credits_found_means_a_valid_key(stored, login, gateway) -> None:
    gateway.on("credits", Reply.error(404, "No credits found for the user"), always=True)
    assert login().code == 0
    assert stored() == {gateway.base_url: NEW}


def test_any_other_404_is_a_wrong_address(login, path, gateway) -> None:
    gateway.on("credits", Reply.page(404), always=True)
    assert login().code == 8
    assert not path.exists()


def test_a_server_that_echoes_the_key(login, gateway) -> None:
    gateway.on("credits", Reply.error(401, f"bad key {NEW}"), always=True)
    ended = login("-v", "--debug")
    assert ended.code == 3
    assert NEW not in ended.out + ended.err


@pytest.mark.parametrize(
    "given", [b"", b" \n", b"SG_\xff\xfe", "SG_ключ".encode(), b"SG_a\x00b", b"two\nkeys"]
)
def test_what_cannot_be_a_key_is_never_sent(login, gateway, given) -> None:
    ended = login(key=given)
    assert ended.code == 3
    assert gateway.requests() == []


def test_without_a_terminal_it_wants_stdin(chroma, gateway) -> None:
    ended = chroma("login", stdin=NEW.encode())
    assert ended.code == 2
    assert "--stdin" in ended.err
    assert gateway.requests() == []


def test_the_sandbox_needs_no_key(login, monkeypatch) -> None:
    monkeypatch.setenv("CHROMA_SANDBOX", "1")
    assert login().code == 2


def test_asked_on_a_terminal_without_echo(process, stored, gateway) -> None:
    with process.terminal("login") as terminal:
        terminal.wait_for("API key")
        terminal.say(f"{NEW}\n")
        assert terminal.end().code == 0
    assert NEW not in terminal.text
    assert stored() == {gateway.base_url: NEW}


def test_ctrl_c_at_the_question(process, path) -> None:
    with process.terminal("login") as terminal:
        terminal.wait_for("API key")
        terminal.process.send_signal(2)
        assert terminal.end().code == 130
    assert "Traceback" not in terminal.text
    assert not path.exists()


# --- use -------------------------------------------------------------------------------------------------


def test_the_stored_key_is_used(login, chroma, gateway) -> None:
    login()
    assert chroma("credits").code == 0
    assert gateway.requests()[-1].headers["x-api-key"] == NEW


def test_a_variable_goes_before_it_and_is_warned_about(login, chroma, gateway, monkeypatch) -> None:
    monkeypatch.setenv("SEGMIND_API_KEY", "SG_fromthevariable")
    ended = login()
    assert any("SEGMIND_API_KEY" in words for words in ended.warnings)
    chroma("credits")
    assert gateway.requests()[-1].headers["x-api-key"] == "SG_fromthevariable"


def test_it_is_used_for_its_own_gateway_only(login, chroma) -> None:
    login()
    with Gateway() as other:
        assert chroma("credits", "--base-url", other.base_url).code == 3
        assert chroma("generate", "a fox", "--base-url", other.base_url).code == 3
        assert other.requests() == []


def test_two_gateways_two_keys(stored, login, chroma, gateway) -> None:
    login()
    with Gateway() as other:
        other.on("credits", Reply.json({"credits": 1}), always=True)
        assert login("--base-url", other.base_url, key=b"SG_other").code == 0
        assert stored() == {gateway.base_url: NEW, other.base_url: "SG_other"}
        assert chroma("logout", "--base-url", other.base_url).code == 0
        assert stored() == {gateway.base_url: NEW}


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_a_file_that_others_can_read_is_not_believed(login, path, chroma, gateway) -> None:
    login()
    path.chmod(0o644)
    sent = len(gateway.requests())
    ended = chroma("credits", "--json")
    assert ended.code == 3
    assert "chmod 600" in ended.error["hint"]
    assert len(gateway.requests()) == sent


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 7}', "\x00"])
def test_a_damaged_file(state, path, chroma, gateway, content) -> None:
    state.mkdir()
    path = path
    path.touch(0o600)
    path.write_text(content)
    assert chroma("credits").code == 3
    assert gateway.requests() == []


def test_a_link_in_place_of_the_file_is_not_followed(tmp_path, state, path, chroma, gateway) -> None:
    state.mkdir()
    target = tmp_path / "somewhere"
    target.touch(0o600)
    target.write_text(json.dumps({gateway.base_url: NEW}))
    path.symlink_to(target)
    assert chroma("credits").code == 3
    assert gateway.requests() == []


# --- logout ----------------------------------------------------------------------------------------------


def test_logout_removes_it(login, path, chroma) -> None:
    login()
    assert chroma("logout").code == 0
    assert not path.exists()
    assert chroma("credits").code == 3
    again = chroma("logout", "--json")
    assert (again.code, again.out) == (0, "")


def test_logout_says_that_a_variable_still_holds_a_key(chroma, monkeypatch) -> None:
    monkeypatch.setenv("SEGMIND_API_KEY", "SG_x")
    assert any("SEGMIND_API_KEY" in words for words in chroma("logout").warnings)


# --- the system keyring ----------------------------------------------------------------------------------


def test_the_keyring_is_preferred(login, path, chroma, gateway, monkeypatch) -> None:
    ring = use(monkeypatch, FakeKeyring())
    ended = login()
    assert "keyring" in ended.out
    assert list(ring.kept.values()) == [NEW]
    assert not path.exists()
    chroma("credits")
    assert gateway.requests()[-1].headers["x-api-key"] == NEW
    assert "keyring" in chroma("config").out
    assert chroma("logout").code == 0
    assert ring.kept == {}


def test_the_keyring_key_belongs_to_its_gateway(login, chroma, monkeypatch) -> None:
    use(monkeypatch, FakeKeyring())
    login()
    with Gateway() as other:
        assert chroma("credits", "--base-url", other.base_url).code == 3
        assert other.requests() == []


def test_moving_into_the_keyring_leaves_no_copy(login, path, monkeypatch) -> None:
    login(key=b"SG_old")
    use(monkeypatch, FakeKeyring())
    login()
    assert not path.exists()


@pytest.mark.parametrize(
    "ring", [FakeKeyring(priority=0), FakeKeyring(priority=-1), FakeKeyring(broken=True)]
)
def test_a_keyring_that_cannot_keep_anything(stored, login, path, chroma, gateway, monkeypatch, ring) -> None:
    use(monkeypatch, ring)
    assert login().code == 0
    assert stored() == {gateway.base_url: NEW}
    assert chroma("credits").code == 0
    assert chroma("logout").code == 0
    assert not path.exists()


def test_a_keyring_that_cannot_even_be_chosen(login, chroma, monkeypatch) -> None:
    ring = use(monkeypatch, FakeKeyring())
    monkeypatch.setattr(ring, "get_keyring", lambda: 1 / 0)
    assert login().code == 0
    assert chroma("credits").code == 0


def test_the_keyring_is_not_asked_when_a_variable_has_the_key(chroma, monkeypatch) -> None:
    ring = use(monkeypatch, FakeKeyring())
    monkeypatch.setattr(ring, "get_password", lambda *_: 1 / 0)
    monkeypatch.setattr(ring, "get_keyring", lambda: 1 / 0)
    monkeypatch.setenv("SEGMIND_API_KEY", NEW)
    assert chroma("credits").code == 0
