"""``generate`` from prompt to picture, with every ending it can have."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest
from kit import (
    BROKEN,
    CLOSE,
    JOB_FIELDS,
    KEY,
    PASS,
    RESET,
    Changed,
    Cut,
    Lost,
    Reply,
    is_whole,
    picture,
)
from PIL import Image


def shape(data: bytes | Path) -> tuple[str | None, tuple[int, int]]:
    """Return format and size, after a full decode."""
    with Image.open(data if isinstance(data, Path) else io.BytesIO(data)) as image:
        image.load()
        return image.format, image.size


@pytest.fixture
def fox(gateway, clock, chroma):
    """``fox("-o", …)`` generates one; time takes no time."""

    def run(*argv: str | Path):
        return chroma("generate", "a fox", *argv)

    return run


# --- a picture -------------------------------------------------------------------------------------------


def test_a_picture_in_the_folder(fox, work):
    done = fox("-o", "fox.png")
    assert done.code == 0, done.said
    assert done.paths == [work / "fox.png"]
    assert shape(work / "fox.png") == ("PNG", (1024, 1024))
    assert os.listdir(work) == ["fox.png"]


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_the_mode_is_what_the_umask_gives(fox, work):
    before = os.umask(0o027)
    try:
        assert fox("-o", "fox.png").code == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((work / "fox.png").stat().st_mode) == 0o640


def test_the_default_name_has_the_first_words_and_the_seed(gateway, clock, made, work):
    assert made("Ein Fuchs, très rusé!", "--seed", "7") == work / "ein-fuchs-tres-ruse-7.png"


def test_a_name_from_a_template_that_is_taken_gets_the_next_number(fox, work):
    args = ("-o", "{slug}.{ext}", "--format", "webp", "--size", "800x768")
    first, second = fox(*args), fox(*args)
    assert (first.code, second.code) == (0, 0)
    assert first.paths == [work / "a-fox.webp"]
    assert second.paths[0].name in ("a-fox-1.webp", "a-fox-2.webp")
    assert shape(second.paths[0]) == ("WEBP", (800, 768))


def test_several_pictures_are_numbered(fox, work):
    done = fox("--samples", "3", "-o", "deep/er/fox.jpg")
    assert done.code == 0, done.said
    names = [work / "deep" / "er" / f"fox-{n}.jpg" for n in (1, 2, 3)]
    assert done.paths == names
    assert all(shape(name)[0] == "JPEG" for name in names)


@pytest.mark.parametrize("way", [[], ["--sync"], ["--base64"], ["--base64", "--sync"], ["--no-ledger"]])
def test_every_way_brings_the_picture_home(fox, work, way):
    done = fox("-o", "fox.png", "--json", "--seed", "11", *way)
    assert done.code == 0, done.said
    job = done.one
    assert set(job) == JOB_FIELDS
    assert (job["schema"], job["status"], job["charged"], job["error"]) == (1, "COMPLETED", "yes", None)
    assert job["mode"] == ("sync" if "--sync" in way else "async")
    assert job["seed"] == job["request"]["seed"] == 11
    assert (job["job"] is None) == ("--no-ledger" in way)
    [file] = job["files"]
    assert set(file) == {"path", "url", "format", "width", "height", "bytes", "sha256"}
    assert file["path"] == str(work / "fox.png")
    assert (file["format"], file["width"], file["height"]) == ("png", 1024, 1024)
    assert file["bytes"] == (work / "fox.png").stat().st_size
    assert set(job["timings"]) == {"queue", "inference", "total"}


def test_what_the_gateway_does_not_say_is_null(gateway, fox):
    gateway.on("result", Changed(lambda told: {key: told[key] for key in ("status", "output")}))
    job = fox("--json").one
    assert job["cost"] is None
    assert job["timings"] == {"queue": None, "inference": None, "total": None}


# --- places ----------------------------------------------------------------------------------------------


def test_an_existing_file_is_refused_before_anything_is_sent(gateway, fox, work):
    (work / "fox.png").write_bytes(b"mine")
    done = fox("-o", "fox.png", "--json")
    assert (done.code, done.error["type"], done.error["charged"]) == (10, "output_exists", "no")
    assert (work / "fox.png").read_bytes() == b"mine"
    assert gateway.requests() == []
    assert fox("-o", "fox.png", "--overwrite").code == 0
    assert is_whole(work / "fox.png")


def test_a_dangling_link_counts_as_a_file(gateway, fox, work):
    (work / "fox.png").symlink_to("nowhere.png")
    assert fox("-o", "fox.png").code == 10
    assert gateway.requests() == []
    assert not (work / "nowhere.png").exists()


def test_a_file_that_appears_meanwhile_keeps_its_name(gateway, fox, work):
    def meanwhile(_request: object):
        (work / "fox.png").write_bytes(b"theirs")
        return PASS

    gateway.on("file", meanwhile)
    done = fox("-o", "fox.png", "--json")
    assert (done.code, done.error["charged"]) == (10, "yes")
    assert (work / "fox.png").read_bytes() == b"theirs"
    [other] = [name for name in os.listdir(work) if name != "fox.png"]
    assert done.one["files"][0]["path"] == str(work / other)
    assert other in done.error["message"]
    assert "fox.png" in done.error["message"]


@pytest.mark.parametrize(
    ("place", "code"), [("/dev/full", 10), ("file/x.png", 10), ("n" * 300 + ".png", 10), ("{no}.png", 2)]
)
def test_an_impossible_place_is_told_before_anything_is_sent(gateway, fox, work, place, code):
    (work / "file").write_bytes(b"")
    done = fox("-o", place, "--json")
    assert (done.code, done.out) == (code, "")
    assert gateway.requests() == []


def test_a_folder_is_a_place_whatever_it_is_called(fox, work):
    (work / "folder.png").mkdir()
    [path] = fox("-o", "folder.png").paths
    assert path.parent == work / "folder.png"


def test_another_ending_comes_true_with_a_warning(gateway, fox):
    gateway.serve(picture(1, "webp"))
    done = fox("-o", "fox.png")
    assert done.code == 0
    assert (done.paths[0].suffix, shape(done.paths[0])[0]) == (".webp", "WEBP")
    assert done.warnings


def test_another_size_is_a_warning(gateway, fox):
    gateway.serve(picture(1, "png", 512, 512))
    done = fox("-o", "fox.png", "--json")
    assert done.code == 0
    assert any("1024x1024" in words for words in done.warnings)


# --- the bytes on stdout ---------------------------------------------------------------------------------


def test_bytes_on_stdout(fox, work):
    done = fox("-o", "-")
    assert done.code == 0
    assert shape(done.raw_out) == ("PNG", (1024, 1024))
    assert os.listdir(work) == []


@pytest.mark.parametrize("more", [["--json"], ["--samples", "2"]])
def test_bytes_on_stdout_have_their_rules(gateway, fox, more):
    done = fox("-o", "-", *more)
    assert (done.code, done.out) == (2, "")
    assert gateway.requests() == []


def test_bytes_for_a_full_stdout_are_kept(gateway, process, state):
    done = process.shell("$CHROMA generate 'a fox' -o - > /dev/full")
    assert done.code == 10
    [rescued] = (state / "rescued").iterdir()
    assert str(rescued) in done.err
    assert is_whole(rescued)
    assert "charged" in done.err


# --- consent and keys ------------------------------------------------------------------------------------


def test_more_than_ten_pictures_want_a_yes(gateway, fox):
    done = fox("--samples", "11", "--json")
    assert done.code == 2
    assert "--yes" in done.error["message"] + str(done.error["hint"])
    assert gateway.requests() == []
    assert len(fox("--samples", "11", "--yes").lines) == 11
    assert len(fox("--samples", "10").lines) == 10


def test_without_a_key_nothing_is_sent_or_made(gateway, fox, work, monkeypatch):
    monkeypatch.delenv("SEGMIND_API_KEY")
    done = fox("-o", "new/fox.png", "--json")
    assert (done.code, done.error["type"]) == (3, "key_missing")
    assert gateway.requests() == []
    assert os.listdir(work) == []


def test_the_key_goes_out_in_one_header_and_appears_nowhere(gateway, fox, state):
    done = fox("-v", "--json", "--debug")
    assert done.code == 0
    assert KEY.encode() not in done.raw_out + done.raw_err
    for request in gateway.requests():
        assert KEY not in request.path
        held = [name for name, value in request.headers.items() if KEY in value]
        assert held == ([] if request.route == "file" else ["x-api-key"])
    assert all(KEY.encode() not in file.read_bytes() for file in state.rglob("*") if file.is_file())


def test_the_sandbox_inside_needs_no_key(gateway, fox, work, state, monkeypatch):
    monkeypatch.delenv("CHROMA_BASE_URL")
    monkeypatch.delenv("SEGMIND_API_KEY")
    done = fox("--sandbox", "-o", "fox.png")
    assert done.code == 0, done.said
    assert shape(work / "fox.png") == ("PNG", (1024, 1024))
    assert (state / "sandbox" / "jobs.sqlite3").exists()
    assert not (state / "jobs.sqlite3").exists()
    assert gateway.requests() == []


# --- endings ---------------------------------------------------------------------------------------------

NO_ID = Changed(lambda told: {"status": told["status"]})
TROUBLE = {
    "failed": ("status", Reply.json({"status": "FAILED", "error": "x"}, 422), 6, "generation_failed", "no"),
    "no credits": ("submit", Reply.error(406), 4, "not_enough_credits", "no"),
    "refused": ("submit", Reply.error(401), 3, "key_refused", "no"),
    "not permitted": ("submit", Reply.error(403), 3, "not_permitted", "no"),
    "retired": ("submit", Reply.error(410), 8, "retired", "no"),
    "server": ("submit", Reply.error(500), 9, "server", "no"),
    "bad gateway": ("submit", Reply.page(502), 9, "outcome_unknown", "unknown"),
    "lost": ("submit", Lost(RESET), 9, "outcome_unknown", "unknown"),
    "no id": ("submit", NO_ID, 9, "outcome_unknown", "unknown"),
    "broken": ("file", lambda request: Cut(100), 9, None, "yes"),
    "expired": ("status", Reply.error(404), 8, "not_found", "unknown"),
    "rate limited": ("submit", Reply.error(429, Retry_After="3000"), 5, "rate_limited", "no"),
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_every_trouble_has_its_exit_code(gateway, fox, work, trouble):
    route, answer, code, kind, charged = TROUBLE[trouble]
    gateway.on(route, answer, always=True)
    done = fox("--json", "--timeout", "20")
    assert done.code == code, done.said
    error, job = done.error, done.one
    assert kind in (None, error["type"])
    assert set(job) == JOB_FIELDS
    assert job["error"] == error
    assert error["charged"] == job["charged"] == charged
    assert error["job"] == job["job"] == 1
    assert error["request_id"] == job["request_id"]
    assert not [name for name in os.listdir(work) if name.endswith(".png")]


@pytest.mark.parametrize(
    ("route", "answers"),
    [
        ("submit", [Reply.error(429, x_ratelimit_reset="2"), Reply.error(503)]),
        ("status", [Reply.error(500), RESET, Reply.page(502), CLOSE]),
        ("result", [Reply.error(503)]),
        ("file", [Cut(100), Reply(200, [], BROKEN["a bit flipped"](picture(1)))]),
    ],
)
def test_what_passes_is_waited_for(gateway, fox, work, route, answers):
    gateway.on(route, *answers)
    done = fox("-o", "fox.png")
    assert done.code == 0, done.said
    assert is_whole(work / "fox.png")
    assert gateway.bills() == 1


def test_a_passed_deadline_leaves_the_job_and_says_how_to_get_it(gateway, fox, chroma):
    gateway.plan(seconds=100)
    done = fox("--timeout", "1", "--json")
    assert done.code == 7
    assert f"chroma fetch {done.error['request_id']}" in done.error["hint"]
    assert done.one["status"] in ("QUEUED", "PROCESSING")
    home = chroma("fetch", "--pending", "--wait", "--json")
    assert home.code == 0, home.said
    assert home.one["request_id"] == done.one["request_id"]


def test_a_lost_answer_is_sent_again_on_request_alone(gateway, fox):
    gateway.on("submit", Lost(CLOSE))
    done = fox("--timeout", "10", "--seed", "5")
    assert (done.code, gateway.posts()) == (9, 1)
    assert "chroma jobs --pending" in done.err
    assert "may have been charged" in done.err
    gateway.on("submit", Lost(CLOSE))
    again = fox("--timeout", "10", "--seed", "6", "--resubmit-unknown", "--json")
    assert (again.code, gateway.posts()) == (0, 3)
    assert again.one["request_id"] == gateway.jobs()[2].id


# --- the viewer ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("result", "warned"), [(0, False), (1, True), (FileNotFoundError(), True)])
def test_open_shows_the_picture_or_warns(fox, work, monkeypatch, result, warned):
    shown: list[str] = []

    def launch(path: str) -> int:
        shown.append(path)
        if isinstance(result, OSError):
            raise result
        return result

    monkeypatch.setattr("typer.launch", launch)
    done = fox("-o", "fox.png", "--open")
    assert done.code == 0
    assert shown == done.lines == [str(work / "fox.png")]
    assert bool(done.warnings) == warned


def test_open_without_any_viewer(gateway, process, work, tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    done = process("generate", "a fox", "-o", "fox.png", "--open", env={"PATH": str(tmp_path)})
    assert done.code == 0, done.said
    assert done.paths == [work / "fox.png"]
    assert "No viewer" in done.err
