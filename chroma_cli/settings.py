"""Where every value comes from: option > environment > config file > built-in, each kept with its source.

The only reader of the process environment. Also owns the key (found here, never printed), the places on
disk, and the rule for gateway addresses.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from chroma_cli.errors import AuthError, ConfigError, KeyMissing, NoHome, UsageError
from chroma_cli.private import changeable_by_others
from chroma_cli.text import quoted

APP: Final = "chroma"
GATEWAY: Final = "https://api.segmind.com"
SANDBOX_KEY: Final = "no-key-needed-here"

BUILT_IN: Final = "built-in"

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


#: Folders that libraries look up by themselves; one that is empty or not absolute names none.
_FOLDERS = ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")


def environment() -> dict[str, str]:
    """Return the process environment without its empty variables, which count as unset."""
    variables = os.environ  # noqa: TID251 - the one reader
    for name in _FOLDERS:
        if name in variables and not Path(variables[name]).is_absolute():
            del variables[name]  # for platformdirs, too, which would make folders below the current one
    return {name: value for name, value in variables.items() if value}


@dataclass(frozen=True)
class Setting:
    """A value and the words for where it came from (``--base-url``, a variable, a file, built-in)."""

    value: Any
    source: str


@dataclass(frozen=True)
class Key:
    """The API key; its text never shows in a repr."""

    text: str = field(repr=False)
    source: str

    @property
    def masked(self) -> str:
        """``SG_…`` and the last 4 characters; less where the key is so short that this would tell it."""
        prefix = "SG_" if self.text.startswith("SG_") else ""
        return f"{prefix}…{self.text[-4:]}" if len(self.text) >= 12 else f"{prefix}…"


@dataclass(frozen=True)
class Terminal:
    """What the environment says about how output should look."""

    no_color: bool
    force_color: bool
    dumb: bool
    ci: bool


@dataclass(frozen=True)
class Config:
    """The config file: its tables as they stand, checked only for shape (values belong to ``request``).

    ``path`` is None when there is no place for one.
    """

    path: Path | None
    exists: bool
    base_url: str | None
    defaults: Mapping[str, Any]
    presets: Mapping[str, Mapping[str, Any]]
    budget: Mapping[str, float]


class Settings:
    """All values of one run. Options that were not given are None."""

    def __init__(
        self,
        env: Mapping[str, str],
        *,
        base_url: str | None = None,
        sandbox: bool | None = None,
        no_ledger: bool | None = None,
    ) -> None:
        self._env = env
        self._base_url_option = base_url
        self._sandbox_option = sandbox
        self._no_ledger_option = no_ledger

    # --- the gateway -------------------------------------------------------------------------------------

    @cached_property
    def sandbox(self) -> Setting:
        """Whether everything runs against the gateway inside the program."""
        setting = self._switch("--sandbox", self._sandbox_option, "CHROMA_SANDBOX")
        if setting.value and self._base_url_option is not None:
            raise UsageError(
                f"{setting.source} and --base-url exclude each other: the sandbox has an address of its own.",
                hint="Leave one of the two out.",
            )
        return setting

    @cached_property
    def base_url(self) -> Setting:
        """The gateway's address, without a slash at its end. Not meaningful in the sandbox."""
        if self._base_url_option is not None:
            return Setting(gateway_address(self._base_url_option, "--base-url"), "--base-url")
        if "CHROMA_BASE_URL" in self._env:
            return Setting(
                gateway_address(self._env["CHROMA_BASE_URL"], "CHROMA_BASE_URL"), "CHROMA_BASE_URL"
            )
        if self.config.base_url is not None:
            source = str(self.config.path)
            check_private(self.config_path.value)
            return Setting(gateway_address(self.config.base_url, f"base_url in {source}"), source)
        return Setting(GATEWAY, BUILT_IN)

    @cached_property
    def no_ledger(self) -> Setting:
        return self._switch("--no-ledger", self._no_ledger_option, "CHROMA_NO_LEDGER")

    @cached_property
    def budgets(self) -> Mapping[str, Setting]:
        """The limits in dollars for the day and the month (UTC), as far as they are set."""
        found = {}
        for name in _BUDGETS:
            variable = f"CHROMA_BUDGET_{name.upper()}"
            if variable in self._env:
                found[name] = Setting(_amount(self._env[variable], variable), variable)
            elif name in self.config.budget:
                found[name] = Setting(float(self.config.budget[name]), str(self.config.path))
        return found

    @property
    def ca_bundle(self) -> str | None:
        """A file or folder of certificate authorities that the environment names."""
        return self._env.get("REQUESTS_CA_BUNDLE") or self._env.get("CURL_CA_BUNDLE")

    # --- the key -----------------------------------------------------------------------------------------

    @cached_property
    def key(self) -> Key:
        """The key for this gateway.

        Raises :class:`KeyMissing` when there is none, :class:`AuthError` when it cannot be used as a header.
        """
        if self.sandbox.value:
            return Key(SANDBOX_KEY, "sandbox")
        found = self._key_from_environment() or self._stored_key()
        if found is None:
            raise KeyMissing("There is no API key.")
        return found

    @property
    def key_variable(self) -> str | None:
        """The variable that a key is taken from, before any stored one."""
        names = ("SEGMIND_API_KEY", "SEGMIND_API_KEY_FILE")
        return next((name for name in names if self._env.get(name, "").strip()), None)

    def _key_from_environment(self) -> Key | None:
        text = clean_key(self._env.get("SEGMIND_API_KEY", ""), "SEGMIND_API_KEY")
        if text:
            return Key(text, "SEGMIND_API_KEY")
        name = self._env.get("SEGMIND_API_KEY_FILE")
        if name is None:
            return None
        where = f"the file {name} (SEGMIND_API_KEY_FILE)"
        try:
            raw = _read_some(Path(name), _LONGEST_KEY_FILE).decode("utf-8", "replace")
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it is no usable name"
            raise KeyMissing(f"The key cannot be read from {where}: {why}.") from error
        text = clean_key(raw, where)
        if not text:
            raise KeyMissing(f"There is no key in {where}: it is empty.")
        return Key(text, where)

    def _stored_key(self) -> Key | None:
        from chroma_cli import credentials

        stored = credentials.find(self.known_state_dir, self.base_url.value)
        return Key(clean_key(stored.text, stored.source), stored.source) if stored else None

    # --- places ------------------------------------------------------------------------------------------

    @cached_property
    def config_path(self) -> Setting:
        """Where the config file is; None without a home folder."""
        if "CHROMA_CONFIG" in self._env:
            return Setting(self._named_path("CHROMA_CONFIG"), "CHROMA_CONFIG")
        import platformdirs

        folder = _own_folder(platformdirs.user_config_path)
        return Setting(folder and folder / "config.toml", BUILT_IN)

    @cached_property
    def state_dir(self) -> Path:
        """Where the ledger, the sandbox's world and rescued pictures live. Raises :class:`NoHome`."""
        if self.known_state_dir is None:
            raise NoHome(
                "There is no place to keep jobs and keys: HOME is not set, and this user has no home folder.",
                hint="Name a folder that is kept in CHROMA_STATE_DIR, and a config file, if there is one, in"
                " CHROMA_CONFIG.",
            )
        return self.known_state_dir

    @cached_property
    def known_state_dir(self) -> Path | None:
        """The same, or None without a home folder."""
        if "CHROMA_STATE_DIR" in self._env:
            return self._named_path("CHROMA_STATE_DIR")
        import platformdirs

        return _own_folder(platformdirs.user_state_path)

    def _named_path(self, name: str) -> Path:
        """Return the path in this variable. Raises :class:`UsageError` for one that a shell should have
        expanded: nobody means a folder that is called ``~``."""
        path = Path(self._env[name])
        if str(path).startswith("~"):
            raise UsageError(
                f"{name}: {str(path)!r} begins with ~, which only a shell expands.",
                hint="Give the whole path.",
            )
        return path.absolute()

    @property
    def state_source(self) -> str:
        return "CHROMA_STATE_DIR" if "CHROMA_STATE_DIR" in self._env else BUILT_IN

    @property
    def sandbox_dir(self) -> Path:
        return self.state_dir / "sandbox"

    @property
    def ledger_path(self) -> Path:
        """The sandbox has a ledger of its own: play money and real money never meet."""
        return (self.sandbox_dir if self.sandbox.value else self.state_dir) / "jobs.sqlite3"

    @property
    def rescue_dir(self) -> Path:
        """Where a finished picture goes that cannot be written where it was asked; without a home folder no
        folder at all, so that it goes to the one for temporary files."""
        return (self.known_state_dir or Path(os.devnull)) / "rescued"

    @property
    def step_summary(self) -> Path | None:
        """Where a GitHub Actions step shows Markdown on its page."""
        text = self._env.get("GITHUB_STEP_SUMMARY")
        return Path(text) if text else None

    @cached_property
    def config(self) -> Config:
        path, source = self.config_path.value, self.config_path.source
        if path is None or (source == BUILT_IN and not _may_be_there(path)):
            return Config(path, False, None, {}, {}, {})
        return read_config(path)

    # --- the rest ----------------------------------------------------------------------------------------

    @property
    def terminal(self) -> Terminal:
        return Terminal(
            no_color="NO_COLOR" in self._env,
            force_color=self._env.get("FORCE_COLOR", "0") not in _FALSE,
            dumb=self._env.get("TERM") in ("dumb", "unknown"),
            ci=self._env.get("CI", "0").casefold() not in _FALSE,
        )

    def _switch(self, option: str, given: bool | None, variable: str) -> Setting:
        if given:
            return Setting(True, option)
        word = self._env.get(variable, "").strip().casefold()
        if word in _TRUE:
            return Setting(True, variable)
        if word and word not in _FALSE:
            raise UsageError(f"{variable}: {word!r} is neither 1 nor 0.")
        return Setting(False, variable if word else BUILT_IN)


def _own_folder(find: Callable[..., Path]) -> Path | None:
    """Return the program's folder as platformdirs has it; None for a user without a home folder."""
    try:
        folder = find(APP, appauthor=False)
    except RuntimeError:
        return None
    return folder if folder.is_absolute() else None  # older versions leave "~" as it is


# --- addresses -------------------------------------------------------------------------------------


def gateway_address(text: str, where: str) -> str:
    """``text`` as a gateway address in one spelling, so that two runs of the same gateway compare equal.

    https anywhere, http for a loopback address only; no user, query or fragment. Raises :class:`UsageError`.
    """

    def refuse(why: str) -> UsageError:
        shown = "".join(ch if ch.isprintable() else "?" for ch in re.sub(r"//[^/@]*@", "//…@", text))[:200]
        return UsageError(
            f"{where}: {shown!r} {why}.",
            hint=f"A gateway address looks like {GATEWAY} or http://127.0.0.1:8000.",
        )

    text = text.strip()
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise refuse("holds characters that cannot stand in an address")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise refuse("is not an address") from None
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in ("https", "http") or not host:
        raise refuse("is not an http(s) address")
    if port == 0 or not _may_be_host(host):
        raise refuse("names no host and port that can be")
    if "@" in parts.netloc:
        raise refuse("must not hold a user or a password")
    if "?" in text or "#" in text:
        raise refuse("must not hold a query or a fragment")
    if parts.scheme == "http" and not is_loopback(host):
        raise refuse("would send the key unencrypted; http:// is only for this machine (127.0.0.1)")
    return _rebuilt(parts, host, port)


def _may_be_host(host: str) -> bool:
    """Whether ``host`` is an IP address or has the form of a name."""
    if ":" not in host:
        return len(host) <= 253 and all(_LABEL.fullmatch(label) for label in host.split("."))
    import ipaddress

    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return "%" not in host  # a zone belongs to a link, not to an address that is kept


def _rebuilt(parts: SplitResult, host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    default = 443 if parts.scheme == "https" else 80
    end = "" if port in (None, default) else f":{port}"
    return f"{parts.scheme}://{shown}{end}{parts.path.rstrip('/')}"


@functools.lru_cache
def is_loopback(host: str) -> bool:
    """Whether ``host`` (a name or an address, without brackets) is this machine by its very spelling."""
    if host.casefold().rstrip(".") == "localhost":
        return True
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# --- the key's text --------------------------------------------------------------------------------


def clean_key(text: str, where: str) -> str:
    """``text`` without the white space around it; "" when nothing is left.

    Raises :class:`AuthError` for anything but printable ASCII, without repeating the text.
    """
    text = text.strip("\ufeff \t\r\n\v\f")
    if not (text.isascii() and text.isprintable()):
        raise AuthError(
            f"The key in {where} holds characters that no key has (only printable ASCII is possible).",
            hint="Copy it again from the provider's console; it looks like SG_ and 16 hexadecimal digits.",
        )
    return text


# --- the config file -------------------------------------------------------------------------------

#: Much more than anybody writes; a device or a wrong file must end somewhere (bytes).
_LONGEST_CONFIG: Final = 4 * 2**20
_LONGEST_KEY_FILE: Final = 4096
_TABLES = ("defaults", "presets", "budget")
_TOP = ("base_url", *_TABLES)
_BUDGETS = ("day", "month")
_HIGHEST_BUDGET: Final = 1e9


def _may_be_there(path: Path) -> bool:
    """Whether a file in the home folder is there, as far as this user may know: with somebody else's HOME
    (``sudo``, a container) it cannot even be looked for."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False
    return True


def read_config(path: Path) -> Config:
    """The config file at ``path``; a missing one is an empty one.

    Raises :class:`ConfigError` for what is not TOML (with the line), not UTF-8, or a key that does not exist.
    """
    try:
        raw = _read_some(path, _LONGEST_CONFIG + 1)
    except FileNotFoundError:
        return Config(path, False, None, {}, {}, {})
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no usable name"
        raise ConfigError(f"The config file {path} cannot be read: {why}.") from error
    if len(raw) > _LONGEST_CONFIG:
        raise ConfigError(f"The config file {path} is larger than {_LONGEST_CONFIG // 2**20} MiB.")
    import tomllib

    try:
        table = tomllib.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"The config file {path} is not UTF-8 (byte {error.start + 1}).") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits raises a plain one
        raise ConfigError(f"The config file {path} is not valid TOML: {error}.") from error
    return _checked(path, table)


def _read_some(path: Path, most: int) -> bytes:
    """At most so many bytes of a file, or of what a pipe gives."""
    with path.open("rb") as file:
        return file.read(most)


def check_private(path: Path) -> None:
    """Refuse to take a gateway's address from a config file that any other account can change: whoever can
    do that gets the key sent to an address of theirs. Raises :class:`ConfigError`.
    """
    place = changeable_by_others(path)
    if place is not None:
        raise ConfigError(
            f"{place} can be written by others, so the base_url in the config file {path} is not believed:"
            " the key would go there.",
            hint="Name the gateway with --base-url, or make it private with:"
            f" chmod go-w {quoted(str(place))}",
        )


def _checked(path: Path, table: Mapping[str, Any]) -> Config:
    wrong = [
        f"{path}: there is no key {key!r} at the top level" + _did_you_mean(key, _TOP)
        for key in table
        if key not in _TOP
    ]
    wrong += [
        f"{path}: {name} must be a table, written as [{name}]"
        for name in _TABLES
        if not isinstance(table.get(name, {}), dict)
    ]
    presets = table.get("presets", {})
    if isinstance(presets, dict):
        wrong += [
            f"{path}: [presets.{name}] must be a table of options"
            for name, values in presets.items()
            if not isinstance(values, dict)
        ]
    base_url = table.get("base_url")
    if base_url is not None and not isinstance(base_url, str):
        wrong.append(f"{path}: base_url must be text")
    budget = table.get("budget", {})
    if isinstance(budget, dict):
        wrong += _budget_problems(path, budget)
    if wrong:
        raise ConfigError(*wrong)
    return Config(path, True, base_url or None, table.get("defaults", {}), presets, budget)


def _amount(text: str, variable: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = -1.0
    if not 0 <= amount < _HIGHEST_BUDGET:  # not a number is neither
        raise UsageError(f"{variable} must be an amount of 0 or more, like 5.00, not {text!r}.")
    return amount


def _budget_problems(path: Path, budget: Mapping[str, Any]) -> list[str]:
    problems = []
    for key, value in budget.items():
        if key not in _BUDGETS:
            problems.append(f"{path}: [budget] has no key {key!r}" + _did_you_mean(key, _BUDGETS))
        elif (
            isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _HIGHEST_BUDGET
        ):
            problems.append(f"{path}: {key} in [budget] must be an amount of 0 or more, like 5.00")
    return problems


def _did_you_mean(word: str, names: tuple[str, ...]) -> str:
    import difflib

    close = difflib.get_close_matches(word, names, n=1)
    return f". Did you mean {close[0]!r}?" if close else "; there are " + ", ".join(names)
