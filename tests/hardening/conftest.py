"""A machine with a key and a hostile world around it."""

from __future__ import annotations

import contextlib
import functools
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# The scripted server and the pseudo-terminal live beside the tests that they were made for.
sys.path[:0] = [str(Path(__file__).resolve().parent.parent / folder) for folder in ("gateway", "cli")]

from faultserver import FaultServer, Reply, gateway_script, tiny_png  # noqa: E402
from hostile import KEY, Rig, SkippingClock  # noqa: E402

from chroma_cli.cli import context  # noqa: E402

PICTURE = tiny_png(1024, 1024)


@pytest.fixture
def rig(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Iterator[Rig]:
    """A machine in ``tmp_path`` before a gateway that is well-behaved until a test spoils it."""
    home = tmp_path / "machine"
    for name in ("work", "outside"):
        (home / name).mkdir(parents=True)
    (home / "outside" / "mine.png").write_bytes(b"mine")

    def read() -> tuple[bytes, bytes]:
        said = capfdbinary.readouterr()
        return said.out, said.err

    with contextlib.ExitStack() as stack:
        gateway, *others = (stack.enter_context(FaultServer(host)) for host in ("127.0.0.1", "127.0.0.1"))
        gateway_script(gateway, polls=0, png=PICTURE)
        others[0].on("GET", "*", Reply(200, [("Content-Type", "image/png")], PICTURE))
        others[0].on("POST", "*", Reply.json({"request_id": "stolen", "status": "QUEUED"}))
        for name, value in {
            "HOME": home,
            "CHROMA_STATE_DIR": home / "state",
            "CHROMA_CONFIG": home / "config.toml",
            "CHROMA_BASE_URL": gateway.base_url,
            "SEGMIND_API_KEY": KEY,
        }.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.delenv("NETRC", raising=False)
        monkeypatch.setattr(context, "SystemClock", SkippingClock)
        monkeypatch.chdir(home / "work")
        yield Rig(gateway, others, home, read)


@pytest.fixture
def real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is about time itself: the program sleeps as it says."""
    from chroma_cli.clock import SystemClock

    monkeypatch.setattr(context, "SystemClock", SystemClock)


@pytest.fixture
def png() -> bytes:
    """What the gateway's files hold."""
    return PICTURE


@pytest.fixture
def write_config(rig: Rig) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        rig.config.write_text(text, encoding="utf-8")
        return rig.config

    return write


@pytest.fixture(scope="session")
def pictures() -> Callable[[str], bytes]:
    """A small picture of each format, with a recipe inside."""
    from PIL import Image

    from chroma_cli.images import containers, recipe
    from chroma_cli.request import builder

    level = builder.Level({"prompt": "a red fox", "seed": 7})
    made = recipe.Recipe(builder.build([level], {}, draw_seed=lambda: 1).request.payload(), seed=7)

    def picture(kind: str) -> bytes:
        plain, out = io.BytesIO(), io.BytesIO()
        Image.effect_noise((24, 16), 40).convert("RGB").save(plain, kind.upper())
        containers.embed(plain, kind, recipe.metadata(made, "full"), out.write)
        return out.getvalue()

    return functools.cache(picture)
