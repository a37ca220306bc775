"""``generate`` from prompt to picture, against a practice gateway, with every ending it can have."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from faultserver import CLOSE, FaultServer, Reply, gateway_script, tiny_png
from PIL import Image
from running import JOB_FIELDS, KEY, Ended, run_process, shell

from chroma_cli.sandbox.server import SandboxServer

Chroma = Callable[..., Ended]
SMALL = ("--size", "768x768")


def picture(data: bytes | Path) -> tuple[str | None, tuple[int, int]]:
    """Format and size, after a full decode."""
    with Image.open(data if isinstance(data, Path) else io.BytesIO(data)) as image:
        image.load()
        return image.format, image.size


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> object:
    """A well-behaved scripted gateway, named by the environment."""
    with FaultServer() as server:
        gateway_script(server, polls=0, png=tiny_png(768, 768))
        monkeypatch.setenv("CHROMA_BASE_URL", server.base_url)
        monkeypatch.setenv("SEGMIND_API_KEY", KEY)
        yield server


# --- a picture -------------------------------------------------------------------------------------------


def test_a_picture_in_the_folder(chroma: Chroma, gateway: SandboxServer, here: Path) -> None:
    done = chroma("generate", "a fox", "-o", "fox.png", *SMALL)
    assert done.code == 0, done.err
    assert done.lines == [str(here / "fox.png")]
    assert picture(here / "fox.png") == ("PNG", (768, 768))
    assert os.listdir(here) == ["fox.png"]


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_the_mode_is_what_the_umask_gives(chroma: Chroma, gateway: SandboxServer, here: Path) -> None:
    before = os.umask(0o027)
    try:
        assert chroma("generate", "a fox", "-o", "fox.png", *SMALL).code == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((here / "fox.png").stat().st_mode) == 0o640


def test_the_default_name_has_the_first_words_and_the_seed(
    chroma: Chroma, gateway: SandboxServer, here: Path
) -> None:
    done = chroma("generate", "Ein Fuchs, très rusé!", "--seed", "7", *SMALL)
    [line] = done.lines
    assert Path(line).parent == here
    assert Path(line).name == "ein-fuchs-tres-ruse-7.png"


def test_a_name_from_a_template_that_is_taken_gets_the_next_number(
    chroma: Chroma, gateway: SandboxServer, here: Path
) -> None:
    args = ("generate", "a fox", "-o", "{slug}.{ext}", "--format", "webp", *SMALL)
    first, second = chroma(*args), chroma(*args)
    assert (first.code, second.code) == (0, 0)
    assert first.lines == [str(here / "a-fox.webp")]
    assert second.lines == [str(here / "a-fox-1.webp")] or second.lines == [str(here / "a-fox-2.webp")]
    assert picture(Path(second.lines[0])) == ("WEBP", (768, 768))


def test_several_pictures_are_numbered(chroma: Chroma, gateway: SandboxServer, here: Path) -> None:
    done = chroma("generate", "a fox", "--samples", "3", "-o", "deep/er/fox.jpg", *SMALL)
    assert done.code == 0, done.err
    names = [here / "deep" / "er" / f"fox-{n}.jpg" for n in (1, 2, 3)]
    assert done.lines == [str(name) for name in names]
    assert all(picture(name) == ("JPEG", (768, 768)) for name in names)


@pytest.mark.parametrize("way", [[], ["--sync"], ["--base64"], ["--base64", "--sync"], ["--no-ledger"]])
def test_every_way_brings_the_picture_home(
    chroma: Chroma, gateway: SandboxServer, here: Path, way: list[str]
) -> None:
    done = chroma("generate", "a fox", "-o", "fox.png", "--json", "--seed", "11", *SMALL, *way)
    assert done.code == 0, done.err
    [job] = done.json
    assert set(job) == JOB_FIELDS
    assert (job["schema"], job["status"], job["charged"], job["error"]) == (1, "COMPLETED", "yes", None)
    assert job["mode"] == ("sync" if "--sync" in way else "async")
    assert job["seed"] == job["request"]["seed"] == 11
    assert (job["job"] is None) == ("--no-ledger" in way)
    [file] = job["files"]
    assert set(file) == {"path", "url", "format", "width", "height", "bytes", "sha256"}
    assert file["path"] == str(here / "fox.png")
    assert (file["format"], file["width"], file["height"]) == ("png", 768, 768)
    assert file["bytes"] == (here / "fox.png").stat().st_size
    assert set(job["timings"]) == {"queue", "inference", "total"}


def test_what_the_gateway_does_not_say_is_null(chroma: Chroma, gateway: SandboxServer, here: Path) -> None:
    [job] = chroma("generate", "a fox [sandbox:terse]", "--json", *SMALL).json
    assert job["cost"] is None
    assert job["timings"] == {"queue": None, "inference": None, "total": None}


# --- places ----------------------------------------------------------------------------------------------


def test_an_existing_file_is_refused_before_anything_is_sent(
    chroma: Chroma, scripted: FaultServer, here: Path
) -> None:
    (here / "fox.png").write_bytes(b"mine")
    done = chroma("generate", "a fox", "-o", "fox.png", "--json")
    assert done.code == 10
    assert done.error["type"] == "output_exists"
    assert done.error["charged"] == "no"
    assert (here / "fox.png").read_bytes() == b"mine"
    assert scripted.requests() == []


def test_a_dangling_link_counts_as_a_file(chroma: Chroma, scripted: FaultServer, here: Path) -> None:
    (here / "fox.png").symlink_to("nowhere.png")
    assert chroma("generate", "a fox", "-o", "fox.png").code == 10
    assert scripted.requests() == []
    assert not (here / "nowhere.png").exists()


def test_overwrite_replaces(chroma: Chroma, scripted: FaultServer, here: Path) -> None:
    (here / "fox.png").write_bytes(b"mine")
    done = chroma("generate", "a fox", "-o", "fox.png", "--overwrite", *SMALL)
    assert done.code == 0
    assert picture(here / "fox.png") == ("PNG", (768, 768))


def test_a_file_that_appears_meanwhile_keeps_its_name(
    chroma: Chroma, scripted: FaultServer, here: Path
) -> None:
    def meanwhile(_request: object) -> Reply:
        (here / "fox.png").write_bytes(b"theirs")
        return Reply(200, [("Content-Type", "image/png")], tiny_png(768, 768))

    scripted.on("GET", "/files/*", meanwhile)
    done = chroma("generate", "a fox", "-o", "fox.png", "--json", *SMALL)
    assert done.code == 10
    assert (here / "fox.png").read_bytes() == b"theirs"
    [job] = done.json
    [other] = [name for name in os.listdir(here) if name != "fox.png"]
    assert job["files"][0]["path"] == str(here / other)
    assert other in done.error["message"]
    assert "fox.png" in done.error["message"]
    assert done.error["charged"] == "yes"


@pytest.mark.parametrize(
    ("place", "code"),
    [("/dev/full", 10), ("folder.png", 10), ("file/x.png", 10), ("n" * 300 + ".png", 10), ("{no}.png", 2)],
)
def test_an_impossible_place_is_told_before_anything_is_sent(
    chroma: Chroma, scripted: FaultServer, here: Path, place: str, code: int
) -> None:
    (here / "folder.png").mkdir()
    (here / "file").write_bytes(b"")
    done = chroma("generate", "a fox", "-o", place, "--json")
    if place == "folder.png":  # a folder that exists is a place for a file with a made-up name
        assert (done.code, len(os.listdir(here / "folder.png"))) == (0, 1)
        return
    assert done.code == code
    assert scripted.requests() == []
    assert done.out == ""


def test_another_ending_comes_true_with_a_warning(chroma: Chroma, gateway: SandboxServer, here: Path) -> None:
    done = chroma("generate", "a fox [sandbox:wrong-format]", "-o", "fox.png", *SMALL)
    assert done.code == 0
    [path] = done.lines
    assert Path(path).suffix != ".png"
    assert picture(Path(path))[0] in ("JPEG", "WEBP")
    assert "warning: " in done.err


def test_another_size_is_a_warning(chroma: Chroma, gateway: SandboxServer, here: Path) -> None:
    done = chroma("generate", "a fox [sandbox:wrong-size]", "-o", "fox.png", "--size", "1024x1024", "--json")
    assert done.code == 0
    assert any("1024x1024" in note.get("warning", "") for note in done.notes)


# --- the bytes on stdout ---------------------------------------------------------------------------------


def test_bytes_on_stdout(chroma: Chroma, scripted: FaultServer, here: Path) -> None:
    done = chroma("generate", "a fox", "-o", "-", *SMALL)
    assert done.code == 0
    assert picture(done.raw_out) == ("PNG", (768, 768))
    assert os.listdir(here) == []


@pytest.mark.parametrize("more", [["--json"], ["--samples", "2"]])
def test_bytes_on_stdout_have_their_rules(chroma: Chroma, scripted: FaultServer, more: list[str]) -> None:
    done = chroma("generate", "a fox", "-o", "-", *more)
    assert done.code == 2
    assert done.out == ""
    assert scripted.requests() == []


def test_bytes_for_a_full_stdout_are_kept(scripted: FaultServer, tmp_path: Path) -> None:
    done = shell("$CHROMA generate 'a fox' --size 768x768 -o - > /dev/full")
    assert done.code == 10
    [rescued] = (tmp_path / "state" / "rescued").iterdir()
    assert str(rescued) in done.err
    assert picture(rescued) == ("PNG", (768, 768))
    assert "charged" in done.err


# --- consent and keys ------------------------------------------------------------------------------------


def test_more_than_ten_pictures_want_a_yes(chroma: Chroma, scripted: FaultServer) -> None:
    done = chroma("generate", "a fox", "--samples", "11", "--json")
    assert done.code == 2
    assert "--yes" in done.error["message"] + str(done.error["hint"])
    assert scripted.requests() == []
    assert len(chroma("generate", "a fox", "--samples", "11", "--yes", *SMALL).lines) == 11
    assert len(chroma("generate", "a fox", "--samples", "10", *SMALL).lines) == 10


def test_without_a_key_nothing_is_sent_or_made(
    chroma: Chroma, scripted: FaultServer, monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    monkeypatch.delenv("SEGMIND_API_KEY")
    done = chroma("generate", "a fox", "-o", "new/fox.png", "--json")
    assert done.code == 3
    assert done.error["type"] == "key_missing"
    assert scripted.requests() == []
    assert os.listdir(here) == []


def test_the_key_goes_out_in_one_header_and_appears_nowhere(
    chroma: Chroma, scripted: FaultServer, tmp_path: Path
) -> None:
    done = chroma("generate", "a fox", "-v", "--json", "--debug", *SMALL)
    assert done.code == 0
    assert KEY.encode() not in done.raw_out + done.raw_err
    for request in scripted.requests():
        assert KEY not in request.path
        held = [name for name, value in request.headers.items() if KEY in value]
        assert held == ([] if request.path.startswith("/files/") else ["x-api-key"])
    for file in (tmp_path / "state").rglob("*"):
        assert file.is_dir() or KEY.encode() not in file.read_bytes()


# --- the sandbox inside ----------------------------------------------------------------------------------


def test_the_sandbox_inside_needs_no_key(tmp_path: Path, here: Path) -> None:
    done = run_process("generate", "a young knight", "--sandbox", "-o", "knight.png")
    assert done.code == 0, done.err
    assert done.lines == [str(here / "knight.png")]
    assert picture(here / "knight.png") == ("PNG", (1024, 1024))
    assert (tmp_path / "state" / "sandbox" / "jobs.sqlite3").exists()
    assert not (tmp_path / "state" / "jobs.sqlite3").exists()


# --- endings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("magic", "code", "kind", "charged"),
    [
        ("fail", 6, "generation_failed", "no"),
        ("block", 6, "generation_failed", "no"),
        ("no-credits", 4, "not_enough_credits", "no"),
        ("unauthorized", 3, "key_refused", "no"),
        ("forbidden", 3, "not_permitted", "no"),
        ("retired", 8, "retired", "no"),
        ("server-error", 9, "server", "no"),
        ("bad-gateway", 9, "outcome_unknown", "unknown"),
        ("lost", 9, "outcome_unknown", "unknown"),
        ("no-id", 9, "outcome_unknown", "unknown"),
        ("broken", 9, None, "yes"),
        ("expired", 8, "not_found", "unknown"),
    ],
)
def test_every_trouble_has_its_exit_code(
    chroma: Chroma, gateway: SandboxServer, here: Path, magic: str, code: int, kind: str | None, charged: str
) -> None:
    done = chroma(
        "generate", f"a fox [sandbox:{magic}]", "--json", "--timeout", "20", *SMALL, "--steps", "10"
    )
    assert done.code == code, done.err
    error = done.error
    assert kind is None or error["type"] == kind
    assert error["charged"] == charged
    [job] = done.json
    assert set(job) == JOB_FIELDS
    assert job["error"] == error
    assert job["charged"] == charged
    assert error["job"] == job["job"] == 1
    assert error["request_id"] == job["request_id"]
    assert not [name for name in os.listdir(here) if name.endswith(".png")]


@pytest.mark.parametrize("magic", ["rate-limit", "hiccup", "flaky", "broken-once", "terse"])
def test_what_passes_is_waited_for(chroma: Chroma, gateway: SandboxServer, here: Path, magic: str) -> None:
    done = chroma("generate", f"a fox [sandbox:{magic}]", "-o", "fox.png", *SMALL)
    assert done.code == 0, done.err
    assert picture(here / "fox.png") == ("PNG", (768, 768))


def test_a_passed_deadline_leaves_the_job_and_says_how_to_get_it(
    chroma: Chroma, gateway: SandboxServer
) -> None:
    done = chroma("generate", "a fox [sandbox:slow]", "--timeout", "1", "--json", *SMALL)
    assert done.code == 7
    assert f"chroma fetch {done.error['request_id']}" in done.error["hint"]
    [job] = done.json
    assert job["status"] in ("QUEUED", "PROCESSING")
    home = chroma("fetch", "--pending", "--wait", "--json")
    assert home.code == 0, home.err
    assert home.json[0]["request_id"] == job["request_id"]


def test_a_rate_limit_beyond_the_deadline(chroma: Chroma, scripted: FaultServer) -> None:
    scripted.on("POST", "/v2/chroma", Reply.json({"error": "slow down"}, 429, Retry_After="3000"))
    done = chroma("generate", "a fox", "--timeout", "5", "--json")
    assert (done.code, done.error["type"], done.error["charged"]) == (5, "rate_limited", "no")


def test_a_lost_answer_is_not_sent_again_by_itself(chroma: Chroma, scripted: FaultServer) -> None:
    scripted.on("POST", "/v2/chroma", CLOSE)
    done = chroma("generate", "a fox", "--timeout", "10")
    assert done.code == 9
    assert len(scripted.requests("POST")) == 1
    assert "chroma jobs --pending" in done.err
    assert "may have been charged" in done.err


def test_a_lost_answer_is_sent_again_on_request(chroma: Chroma, scripted: FaultServer) -> None:
    good = Reply.json({"request_id": "job-9", "status": "QUEUED"})
    scripted.on("POST", "/v2/chroma", CLOSE, good)
    scripted.on("GET", "/v2/requests/job-9/status", Reply.json({"status": "FAILED", "error": "no"}, 422))
    done = chroma("generate", "a fox", "--timeout", "10", "--resubmit-unknown", "--json")
    assert len(scripted.requests("POST")) == 2
    assert (done.code, done.error["request_id"]) == (6, "job-9")


# --- the viewer ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("result", "warned"), [(0, False), (1, True), (FileNotFoundError(), True)])
def test_open_shows_the_picture_or_warns(
    chroma: Chroma,
    scripted: FaultServer,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    result: int | OSError,
    warned: bool,
) -> None:
    shown: list[str] = []

    def launch(path: str) -> int:
        shown.append(path)
        if isinstance(result, OSError):
            raise result
        return result

    monkeypatch.setattr("typer.launch", launch)
    done = chroma("generate", "a fox", "-o", "fox.png", "--open", *SMALL)
    assert done.code == 0
    assert shown == done.lines == [str(here / "fox.png")]
    assert ("warning: " in done.err) == warned


def test_open_without_any_viewer(
    scripted: FaultServer, here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("DISPLAY", raising=False)
    done = run_process("generate", "a fox", "-o", "fox.png", "--open", *SMALL)
    assert done.code == 0, done.err
    assert done.lines == [str(here / "fox.png")]
    assert "No viewer" in done.err
