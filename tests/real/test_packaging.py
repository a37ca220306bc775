"""The wheel and the sdist: what is in them, and that they work with the oldest and the newest libraries.

The newest ones are tried with each Python from 3.11 that is found, the oldest with the running one.
"""

from __future__ import annotations

import email
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import chroma_cli

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TOP = Path(__file__).parents[2]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
VERSION = chroma_cli.__version__
NAME = f"chroma_cli-{VERSION}"
#: What a person does first; no test tools needed.
SMOKE = [
    ["--version"],
    ["--help"],
    ["presets", "--json"],
    ["generate", "a knight", "--sandbox", "--size", "768x768", "-o", "knight.png"],
    ["generate", "a knight", "--sandbox", "--sync", "--size", "768x768", "-o", "knight.webp", "--json"],
    ["inspect", "knight.png", "--json"],
    ["sheet", "knight.png", "knight.webp", "-o", "sheet.jpg"],
    ["gallery", "."],
    ["jobs", "--sandbox", "--json"],
    ["credits", "--sandbox"],
    ["batch", "list.csv", "--sandbox"],
    ["batch", "list.csv", "--check"],
    ["completion", "bash"],
]
#: What is refused, with its exit code: the libraries' own errors become the program's.
REFUSED = {
    ("generate", "--nope"): 2,
    ("paint",): 2,
    ("generate", "a knight [sandbox:fail]", "--sandbox"): 6,
    ("fetch", "nobody-s", "--sandbox"): 8,
    ("credits", "--base-url", "http://127.0.0.1:9", "--no-ledger"): 3,
}
#: The test tools that these tests need.
TOOLS = re.compile(r"(pytest|pytest-socket|pytest-timeout|hypothesis)>=")
#: The tests that lean on the libraries most, and are quick.
TESTS = ["tests/test_kit.py", *(f"tests/commands/test_{name}.py" for name in ("from", "inspect", "metadata"))]


def oldest(requirement: str) -> str:
    """``typer>=0.27,<0.29`` as ``typer==0.27``, which pip takes for 0.27.0 too."""
    found = re.match(r"([\w.-]+)\s*>=\s*([\w.]+)", requirement)
    assert found, f"no lower bound: {requirement}"
    return f"{found[1]}=={found[2]}"


def pythons() -> list[str]:
    """The interpreters from 3.11 in PATH and below ~/.pyenv, one for each minor version."""
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))  # noqa: TID251
    wanted = [Path(sys.executable), *sorted(home.glob("versions/3.*/bin/python"))]
    wanted += [Path(found) for n in range(11, 20) if (found := shutil.which(f"python3.{n}"))]
    found: dict[tuple[int, int], str] = {}
    for path in wanted:
        ask = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
        said = subprocess.run([str(path), "-c", ask], capture_output=True, text=True)
        if said.returncode == 0:
            major, minor = map(int, said.stdout.split())
            if (major, minor) >= (3, 11):
                found.setdefault((major, minor), str(path))
    return list(found.values())


def must(call: Sequence[str | Path], folder: Path, **more: Any) -> str:
    done = subprocess.run(
        [str(one) for one in call], cwd=folder, capture_output=True, text=True, timeout=600, **more
    )
    assert done.returncode == 0, f"{call}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was made from it."""
    if shutil.which("git") is None or not (TOP / ".git").exists():
        pytest.skip("not a clone: there is nothing to build from")
    source = tmp_path_factory.mktemp("source") / "clone"
    # what is committed or waits to be, and nothing else of the folder
    listed = must(["git", "ls-files", "--cached", "--others", "--exclude-standard"], TOP)
    for name in filter(None, listed.splitlines()):
        if (TOP / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(TOP / name, source / name)
    target = tmp_path_factory.mktemp("dist")
    pytest.importorskip("build", reason="the build front end is one of the test tools")
    must([sys.executable, "-m", "build", "-o", target, source], source)
    return target


# --- what is in them -------------------------------------------------------------------------------------


def test_the_wheel_holds_the_package_the_completions_and_the_manual_page(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    data = f"{NAME}.data/data/share/"
    shared = {name.removeprefix(data) for name in names if name.startswith(data)}
    assert shared == {
        "bash-completion/completions/chroma",
        "zsh/site-functions/_chroma",
        "fish/vendor_completions.d/chroma.fish",
        "man/man1/chroma.1",
    }
    rest = {name for name in names if not name.startswith((f"{NAME}.data/", f"{NAME}.dist-info/"))}
    house = Path(chroma_cli.__file__).parent
    here = {path.relative_to(house.parent).as_posix() for path in house.rglob("*") if path.is_file()}
    assert rest == {name for name in here if "__pycache__" not in name}
    assert "chroma_cli/py.typed" in rest


def test_the_wheel_says_what_it_is(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    archive = zipfile.ZipFile(wheel)
    about = email.message_from_bytes(archive.read(f"{NAME}.dist-info/METADATA"))
    assert (about["Name"], about["Version"]) == ("chroma-cli", VERSION)
    assert about["Requires-Python"] == ">=3.11"
    assert b"chroma = chroma_cli.cli.main:entry" in archive.read(f"{NAME}.dist-info/entry_points.txt")
    needed = [one for one in about.get_all("Requires-Dist", []) if "extra ==" not in one]
    assert len(needed) == len(PROJECT["project"]["dependencies"])


def test_the_sdist_holds_what_the_tests_need_and_no_litter(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md", "tests/conftest.py", "completions/_chroma"):
        assert name in names
    litter = re.compile(r"__pycache__|\.pyc$|\.venv|\.artifacts|\.coverage|\.png$|(^|/)\.(?!gitignore)")
    assert not [name for name in names if litter.search(name)]


# --- that they work --------------------------------------------------------------------------------------


def test_every_library_has_a_lower_bound() -> None:
    assert len([oldest(one) for one in PROJECT["project"]["dependencies"]]) > 4


@pytest.mark.parametrize("age", ["oldest", "newest"])
def test_it_works_in_a_clean_environment(age: str, built: Path, tmp_path: Path) -> None:
    for number, python in enumerate(pythons() if age == "newest" else [sys.executable]):
        (tmp_path / str(number)).mkdir()
        works(python, age, built, tmp_path / str(number))


def works(python: str, age: str, built: Path, tmp_path: Path) -> None:
    bounds = [oldest(one) for one in PROJECT["project"]["dependencies"]] if age == "oldest" else []
    (tmp_path / "bounds.txt").write_text("\n".join(bounds) + "\n")
    must([python, "-m", "venv", "env"], tmp_path)
    inside = tmp_path / "env" / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    must([inside, "-m", "pip", "install", "-q", "-c", "bounds.txt", wheel], tmp_path)
    if bounds:
        found = json.loads(must([inside, "-m", "pip", "list", "--format=json"], tmp_path))
        versions = {one["name"].lower(): one["version"] for one in found}
        for name, version in (bound.split("==") for bound in bounds):
            assert re.fullmatch(rf"{re.escape(version)}(\.0)*", versions[name.lower()])
    desk = tmp_path / "desk"
    desk.mkdir()
    (desk / "list.csv").write_text("output,prompt,size\na.png,a fox,768x768\n")
    for args in SMOKE:
        must([inside.with_name("chroma"), *args], desk)
    for refused, code in REFUSED.items():
        call = [str(inside.with_name("chroma")), *refused]
        done = subprocess.run(call, cwd=desk, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stderr
    assert (tmp_path / "env/share/man/man1/chroma.1").is_file()
    tools = [one for one in PROJECT["project"]["optional-dependencies"]["test"] if TOOLS.match(one)]
    must([inside, "-m", "pip", "install", "-q", "-c", "bounds.txt", *tools], tmp_path)
    for name in ("tests", "pyproject.toml", "README.md", "completions"):
        copy = shutil.copytree if (TOP / name).is_dir() else shutil.copyfile
        copy(TOP / name, desk / name)
    must([inside, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *TESTS], desk)


def test_the_sdist_installs(built: Path, tmp_path: Path) -> None:
    must([sys.executable, "-m", "venv", "env"], tmp_path)
    (sdist,) = built.glob("*.tar.gz")
    inside = tmp_path / "env" / "bin"
    must([inside / "python", "-m", "pip", "install", "-q", sdist], tmp_path)
    assert must([inside / "chroma", "--version"], tmp_path) == f"chroma {VERSION}\n"


@pytest.mark.parametrize("tool", ["pipx", "uv"])
def test_the_readme_s_installers(tool: str, built: Path, tmp_path: Path) -> None:
    """``pipx install .`` and ``uv tool install .`` with all that they write kept in this folder."""
    must([sys.executable, "-m", "venv", "tool"], tmp_path)
    program = tmp_path / "tool" / "bin" / tool
    done = subprocess.run(
        [program.with_name("python"), "-m", "pip", "install", "-q", tool], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"{tool} cannot be installed here: {done.stderr[-200:]}")
    (wheel,) = built.glob("*.whl")
    env = {
        **os.environ,  # noqa: TID251
        **{f"PIPX_{name}": str(tmp_path / name.lower()) for name in ("HOME", "BIN_DIR", "MAN_DIR")},
        **{f"UV_{name}": str(tmp_path / name.lower()) for name in ("TOOL_DIR", "CACHE_DIR")},
        "UV_TOOL_BIN_DIR": str(tmp_path / "bin_dir"),
        "UV_PYTHON": sys.executable,
    }
    call = [program, "install"] if tool == "pipx" else [program, "tool", "install"]
    must([*call, wheel], tmp_path, env=env)
    assert must([tmp_path / "bin_dir" / "chroma", "--version"], tmp_path) == f"chroma {VERSION}\n"
