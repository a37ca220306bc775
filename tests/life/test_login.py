"""``chroma login`` and ``logout``: a key is checked, kept from others, and used nowhere else."""

from __future__ import annotations

import json
import os
import sys
import types
from typing import Any

import pytest
from faultserver import RESET, FaultServer, Reply
from running import on_terminal

ROUTE = "/v1/get-user-credits"
NEW = "SG_ffffeeee00001111"


@pytest.fixture
def life(life: Any, monkeypatch: Any) -> Any:
    """A machine without a key, and without a keyring."""
    monkeypatch.delenv("SEGMIND_API_KEY")
    monkeypatch.setitem(sys.modules, "keyring", None)
    return life


def stored(life: Any) -> dict[str, str]:
    return dict(json.loads((life.state / "credentials.json").read_bytes()))


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


def use(monkeypatch: Any, ring: FakeKeyring) -> FakeKeyring:
    monkeypatch.setitem(sys.modules, "keyring", ring)
    return ring


# --- checking --------------------------------------------------------------------------------------------


def test_a_good_key_is_checked_with_the_free_route_and_stored(life: Any) -> None:
    ran = life("login", "--stdin", stdin=f"  {NEW}\n".encode())
    assert ran.code == 0
    [call] = life.server.requests()
    assert (call.method, call.path, call.headers["x-api-key"]) == ("GET", ROUTE, NEW)
    assert stored(life) == {life.server.base_url: NEW}
    assert NEW not in ran.out + ran.err
    assert "SG_…1111" in ran.out


def test_json(life: Any) -> None:
    ran = life("login", "--stdin", "--json", stdin=NEW.encode())
    [found] = ran.objects
    assert (found["schema"], found["key"], found["base_url"]) == (1, "SG_…1111", life.server.base_url)
    assert NEW not in ran.out + ran.err


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_the_file_is_for_its_owner_alone_whatever_the_umask(life: Any) -> None:
    before = os.umask(0)
    try:
        life("login", "--stdin", stdin=NEW.encode())
    finally:
        os.umask(before)
    assert (life.state / "credentials.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in life.state.iterdir()] == ["credentials.json"]


@pytest.mark.parametrize(("status", "code"), [(401, 3), (403, 3), (405, 2), (500, 9)])
def test_a_key_that_was_not_confirmed_is_not_stored(life: Any, status: int, code: int) -> None:
    life.server.on("GET", ROUTE, Reply.json({"error": "no"}, status))
    ran = life("login", "--stdin", "--json", stdin=NEW.encode())
    assert (ran.code, ran.error["exit_code"]) == (code, code)
    assert not (life.state / "credentials.json").exists()


def test_no_network_no_login(life: Any) -> None:
    life.server.on("GET", ROUTE, RESET)
    assert life("login", "--stdin", stdin=NEW.encode()).code == 9
    assert not (life.state / "credentials.json").exists()


def test_no_credits_found_means_a_valid_key(life: Any) -> None:
    life.server.on("GET", ROUTE, Reply.json({"error": "No credits found for the user"}, 404))
    assert life("login", "--stdin", stdin=NEW.encode()).code == 0
    assert stored(life) == {life.server.base_url: NEW}


def test_any_other_404_is_a_wrong_address(life: Any) -> None:
    life.server.on("GET", ROUTE, Reply.text("<html>nothing here</html>", 404, "text/html"))
    assert life("login", "--stdin", stdin=NEW.encode()).code == 8
    assert not (life.state / "credentials.json").exists()


def test_a_server_that_echoes_the_key(life: Any) -> None:
    life.server.on("GET", ROUTE, Reply.json({"error": f"bad key {NEW}"}, 401))
    ran = life("login", "--stdin", "-v", "--debug", stdin=NEW.encode())
    assert ran.code == 3
    assert NEW not in ran.out + ran.err


@pytest.mark.parametrize(
    "given", [b"", b" \n", b"SG_\xff\xfe", "SG_ключ".encode(), b"SG_a\x00b", b"two\nkeys"]
)
def test_what_cannot_be_a_key_is_never_sent(life: Any, given: bytes) -> None:
    ran = life("login", "--stdin", stdin=given)
    assert ran.code == 3
    assert life.server.requests() == []


def test_without_a_terminal_it_wants_stdin(life: Any) -> None:
    ran = life("login", stdin=NEW.encode())
    assert ran.code == 2
    assert "--stdin" in ran.err
    assert life.server.requests() == []


def test_the_sandbox_needs_no_key(life: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("CHROMA_SANDBOX", "1")
    assert life("login", "--stdin", stdin=NEW.encode()).code == 2


def test_asked_on_a_terminal_without_echo(life: Any) -> None:
    with on_terminal("login") as terminal:
        terminal.wait_for("API key")
        terminal.say(f"{NEW}\n")
        assert terminal.end() == 0
    assert NEW not in terminal.text
    assert stored(life) == {life.server.base_url: NEW}


def test_ctrl_c_at_the_question(life: Any) -> None:
    with on_terminal("login") as terminal:
        terminal.wait_for("API key")
        terminal.process.send_signal(2)
        assert terminal.end() == 130
    assert "Traceback" not in terminal.text
    assert not (life.state / "credentials.json").exists()


# --- use -------------------------------------------------------------------------------------------------


def test_the_stored_key_is_used(life: Any) -> None:
    life("login", "--stdin", stdin=NEW.encode())
    assert life("credits").code == 0
    assert life.server.requests()[-1].headers["x-api-key"] == NEW


def test_a_variable_goes_before_it_and_is_warned_about(life: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("SEGMIND_API_KEY", "SG_fromthevariable")
    ran = life("login", "--stdin", stdin=NEW.encode())
    assert any("SEGMIND_API_KEY" in words for words in ran.warnings)
    life("credits")
    assert life.server.requests()[-1].headers["x-api-key"] == "SG_fromthevariable"


def test_it_is_used_for_its_own_gateway_only(life: Any) -> None:
    life("login", "--stdin", stdin=NEW.encode())
    with FaultServer() as other:
        assert life("credits", "--base-url", other.base_url).code == 3
        assert life("generate", "a fox", "--base-url", other.base_url).code == 3
        assert other.requests() == []


def test_two_gateways_two_keys(life: Any) -> None:
    life("login", "--stdin", stdin=NEW.encode())
    with FaultServer() as other:
        other.on("GET", ROUTE, Reply.json({"credits": 1}))
        assert life("login", "--stdin", "--base-url", other.base_url, stdin=b"SG_other").code == 0
        assert stored(life) == {life.server.base_url: NEW, other.base_url: "SG_other"}
        assert life("logout", "--base-url", other.base_url).code == 0
        assert stored(life) == {life.server.base_url: NEW}


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_a_file_that_others_can_read_is_not_believed(life: Any) -> None:
    life("login", "--stdin", stdin=NEW.encode())
    (life.state / "credentials.json").chmod(0o644)
    sent = len(life.server.requests())
    ran = life("credits", "--json")
    assert ran.code == 3
    assert "chmod 600" in ran.error["hint"]
    assert len(life.server.requests()) == sent


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 7}', "\x00"])
def test_a_damaged_file(life: Any, content: str) -> None:
    life.state.mkdir()
    path = life.state / "credentials.json"
    path.touch(0o600)
    path.write_text(content)
    assert life("credits").code == 3
    assert life.server.requests() == []


def test_a_link_in_place_of_the_file_is_not_followed(life: Any) -> None:
    life.state.mkdir()
    target = life.home / "somewhere"
    target.touch(0o600)
    target.write_text(json.dumps({life.server.base_url: NEW}))
    (life.state / "credentials.json").symlink_to(target)
    assert life("credits").code == 3
    assert life.server.requests() == []


# --- logout ----------------------------------------------------------------------------------------------


def test_logout_removes_it(life: Any) -> None:
    life("login", "--stdin", stdin=NEW.encode())
    assert life("logout").code == 0
    assert not (life.state / "credentials.json").exists()
    assert life("credits").code == 3
    again = life("logout", "--json")
    assert (again.code, again.out) == (0, "")


def test_logout_says_that_a_variable_still_holds_a_key(life: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("SEGMIND_API_KEY", "SG_x")
    assert any("SEGMIND_API_KEY" in words for words in life("logout").warnings)


# --- the system keyring ----------------------------------------------------------------------------------


def test_the_keyring_is_preferred(life: Any, monkeypatch: Any) -> None:
    ring = use(monkeypatch, FakeKeyring())
    ran = life("login", "--stdin", stdin=NEW.encode())
    assert "keyring" in ran.out
    assert list(ring.kept.values()) == [NEW]
    assert not (life.state / "credentials.json").exists()
    life("credits")
    assert life.server.requests()[-1].headers["x-api-key"] == NEW
    assert "keyring" in life("config").out
    assert life("logout").code == 0
    assert ring.kept == {}


def test_the_keyring_key_belongs_to_its_gateway(life: Any, monkeypatch: Any) -> None:
    use(monkeypatch, FakeKeyring())
    life("login", "--stdin", stdin=NEW.encode())
    with FaultServer() as other:
        assert life("credits", "--base-url", other.base_url).code == 3
        assert other.requests() == []


def test_moving_into_the_keyring_leaves_no_copy(life: Any, monkeypatch: Any) -> None:
    life("login", "--stdin", stdin=b"SG_old")
    use(monkeypatch, FakeKeyring())
    life("login", "--stdin", stdin=NEW.encode())
    assert not (life.state / "credentials.json").exists()


@pytest.mark.parametrize(
    "ring", [FakeKeyring(priority=0), FakeKeyring(priority=-1), FakeKeyring(broken=True)]
)
def test_a_keyring_that_cannot_keep_anything(life: Any, monkeypatch: Any, ring: FakeKeyring) -> None:
    use(monkeypatch, ring)
    assert life("login", "--stdin", stdin=NEW.encode()).code == 0
    assert stored(life) == {life.server.base_url: NEW}
    assert life("credits").code == 0
    assert life("logout").code == 0
    assert not (life.state / "credentials.json").exists()


def test_a_keyring_that_cannot_even_be_chosen(life: Any, monkeypatch: Any) -> None:
    ring = use(monkeypatch, FakeKeyring())
    monkeypatch.setattr(ring, "get_keyring", lambda: 1 / 0)
    assert life("login", "--stdin", stdin=NEW.encode()).code == 0
    assert life("credits").code == 0


def test_the_keyring_is_not_asked_when_a_variable_has_the_key(life: Any, monkeypatch: Any) -> None:
    ring = use(monkeypatch, FakeKeyring())
    monkeypatch.setattr(ring, "get_password", lambda *_: 1 / 0)
    monkeypatch.setattr(ring, "get_keyring", lambda: 1 / 0)
    monkeypatch.setenv("SEGMIND_API_KEY", NEW)
    assert life("credits").code == 0
