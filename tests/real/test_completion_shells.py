"""The completion scripts in real shells: what TAB makes of a line, and what it offers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit import helps
from kit.shells import COMPLETIONS, Shell, shell

pytestmark = pytest.mark.slow

SHELLS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed"),
        id=name,
    )
    for name in ("bash", "zsh", "fish")
]
HOSTILE = "$(touch pwned) `touch pwned` ; touch pwned #'\"\\ \x1b[31m [red]%F{red} $HOME ~ *: a\tb\nc"
#: What describes each of two harmless jobs.
FOX, BOAT = "a red fox in the snow", "a paper boat"


@pytest.fixture(params=SHELLS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(work: Path) -> Path:
    folder = work
    (folder / "my pictures").mkdir()
    (folder / "my pictures" / "a fox.png").touch()
    (folder / "list.toml").touch()
    return folder


@pytest.fixture
def at(name: str, folder: Path, tmp_path: Path) -> Iterator[Shell]:
    with shell(name, folder, tmp_path / "shell") as running:
        yield running


# --- what the scripts know themselves --------------------------------------------------------------------


def test_one_command_is_finished(at: Shell) -> None:
    assert at.given("chroma gen\t") == ["generate"]


def test_every_command_is_offered(at: Shell) -> None:
    at.offered("chroma \t", *helps.commands())


def test_two_options_that_begin_alike_are_both_offered(at: Shell) -> None:
    screen = at.offered("chroma generate --sam\t", "--sampler", "--samples")
    assert "--scheduler" not in screen


def test_an_option_is_finished_behind_a_prompt(at: Shell) -> None:
    assert at.given("chroma generate 'a fox' --over\t") == ["generate", "a fox", "--overwrite"]


def test_a_prompt_that_is_a_command_s_name_changes_nothing(at: Shell) -> None:
    assert at.given("chroma generate config --over\t") == ["generate", "config", "--overwrite"]
    assert at.given("chroma generate batch --chec\t") == ["generate", "batch", "--chec"]


def test_the_samplers_are_offered(at: Shell) -> None:
    at.offered("chroma generate --sampler \t", "euler_a", "heun", "dpm_adaptive", "dpmpp_2s_a")


def test_a_sampler_is_finished(at: Shell) -> None:
    assert at.given("chroma generate --sampler he\t") == ["generate", "--sampler", "heun"]


def test_so_it_is_behind_an_equals_sign(at: Shell) -> None:
    assert at.given("chroma generate --sampler=he\t") == ["generate", "--sampler=heun"]


def test_the_shapes_are_offered(at: Shell) -> None:
    at.offered("chroma generate --aspect \t", "square", "portrait", "landscape", "16:9", "9:16", "21:9")


@pytest.mark.parametrize(
    ("typed", "word"), [("16:", "16:9"), ("21", "21:9"), ("5:", "5:8"), ("land", "landscape")]
)
def test_a_shape_is_finished_with_its_colon(at: Shell, typed: str, word: str) -> None:
    assert at.given(f"chroma generate --aspect {typed}\t") == ["generate", "--aspect", word]


def test_a_shape_behind_the_short_option(at: Shell) -> None:
    assert at.given("chroma generate -a 16:\t -q") == ["generate", "-a", "16:9", "-q"]


def test_shells_are_offered_to_completion_itself(at: Shell) -> None:
    at.offered("chroma completion \t", "bash", "zsh", "fish")


def test_fixed_words_do_not_start_the_program(at: Shell, tmp_path: Path) -> None:
    at.given("chroma generate --sampler he\t")
    assert not (tmp_path / "shell" / "calls").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("chroma gen", "generate"),
        ("chroma generate --sampler heu", "heun"),
        ("chroma generate 'a fox' --overw", "--overwrite"),
    ],
)
def test_the_bash_function_works_for_other_callers_too(words: str, expected: str) -> None:
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    call = (
        f". {COMPLETIONS}/chroma.bash; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _chroma"
    )
    done = subprocess.run(
        ["bash", "-c", f'{call}; printf "%s\\n" "${{COMPREPLY[@]}}"'],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == (f"{expected}\n", "")


# --- files -----------------------------------------------------------------------------------------------


def test_files_with_spaces_behind_output(at: Shell) -> None:
    assert at.given("chroma generate x -o my\t") in (
        ["generate", "x", "-o", "my pictures/"],
        ["generate", "x", "-o", "my pictures"],
    )
    assert at.given("chroma generate x -o my\\ pictures/a\t") == [
        "generate",
        "x",
        "-o",
        "my pictures/a fox.png",
    ]


def test_files_behind_output_and_an_equals_sign(at: Shell) -> None:
    assert at.given("chroma generate x --output=li\t") == ["generate", "x", "--output=list.toml"]


def test_the_manifest_is_a_file(at: Shell) -> None:
    assert at.given("chroma batch li\t --check") == ["batch", "list.toml", "--check"]


# --- what changes ----------------------------------------------------------------------------------------


@pytest.fixture
def jobs(chroma, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of three jobs in the sandbox's ledger: a fox, a boat, and one with a hostile prompt."""
    monkeypatch.setenv("CHROMA_SANDBOX", "1")
    prompts = (FOX, BOAT, HOSTILE.replace("\x1b", ""))
    return [chroma("submit", "-q", "--", prompt).lines[0] for prompt in prompts]


@pytest.fixture
def beside(jobs: list[str], name: str, folder: Path, tmp_path: Path) -> Iterator[Shell]:
    with shell(name, folder, tmp_path / "shell") as running:
        yield running


def test_ids_are_offered_with_state_and_prompt(
    beside: Shell, jobs: list[str], name: str, folder: Path
) -> None:
    # bash has no descriptions
    told = (FOX, BOAT, "waiting in the queue") if name != "bash" else ()
    beside.offered("chroma fetch \t", *jobs, *told)
    assert not (folder / "pwned").exists()


def test_an_id_is_finished_and_only_the_program_is_asked(
    beside: Shell, jobs: list[str], folder: Path, tmp_path: Path
) -> None:
    for job in jobs:
        shared = max(len(_common(job, other)) for other in jobs if other != job)
        assert beside.given(f"chroma status {job[: shared + 1]}\t") == ["status", job]
    assert not (folder / "pwned").exists()
    assert set((tmp_path / "shell" / "calls").read_text().splitlines()) == {"completion --values ids"}


def test_a_preset_of_the_config_file(name: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[presets.sofa]\ncfg = 9\n[presets."a b; touch pwned"]\ncfg = 8\n')
    with shell(name, folder, tmp_path / "shell") as at:
        assert at.given("chroma generate -p so\t") == ["generate", "-p", "sofa"]
        assert at.given("chroma generate -p a\t") == ["generate", "-p", "a b; touch pwned"]
        at.offered("chroma generate --preset \t", "fine-art", "sofa", "photorealism")
    assert not (folder / "pwned").exists()


def _common(one: str, other: str) -> str:
    length = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
    return one[:length]
