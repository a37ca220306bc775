"""The rules of the practice gateway, on a clock that is moved by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chroma_cli.request import schema
from chroma_cli.sandbox import magic
from chroma_cli.sandbox.state import Account, Job
from chroma_cli.sandbox.world import Call, Painting, Reply, SizeOf, World, WorldOptions


@dataclass
class Practice:
    """A world in memory with a hand-moved clock."""

    options: WorldOptions = field(default_factory=WorldOptions)
    now: float = 1_700_000_000.0
    jobs: dict[str, Job] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.account = Account(salt="salt", balance=self.options.credits)
        self.world = World(self.options, self.account, self.jobs)

    def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        named = {"x-api-key": "SG_test", "content-type": "application/json"}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.world.answer(Call(method, path, named, body, "http://host:1"), self.now)

    def submit(self, prompt: str = "a knight", version: str = "v2", **more: Any) -> Reply:
        return self.call("POST", f"/{version}/chroma", json.dumps({"prompt": prompt, **more}).encode())

    def accepted(self, prompt: str = "a knight", **more: Any) -> str:
        reply = self.submit(prompt, **more)
        assert reply.status == 200, reply
        request_id = reply.body["request_id"]
        assert isinstance(request_id, str)
        return request_id

    def status(self, request_id: str) -> Reply:
        return self.call("GET", f"/v2/requests/{request_id}/status")

    def result(self, request_id: str) -> Reply:
        return self.call("GET", f"/v2/requests/{request_id}")


@pytest.fixture
def world() -> Practice:
    return Practice()


@pytest.fixture
def make_world() -> Callable[..., Practice]:
    return lambda **options: Practice(WorldOptions(**options))


# --- the life of a job -------------------------------------------------------------------------------------


def test_job_goes_from_queued_to_completed_and_is_charged_then(world: Practice) -> None:
    request_id = world.accepted()
    assert world.status(request_id).body["status"] == "QUEUED"
    world.now += 1
    processing = world.status(request_id)
    assert processing.body["status"] == "PROCESSING"
    assert "cost" not in processing.body["metrics"]
    assert processing.headers["x-remaining-credits"] == "25"
    world.now += 2.5
    done = world.status(request_id)
    assert done.body["status"] == "COMPLETED"
    assert "output" not in done.body
    metrics = done.body["metrics"]
    assert metrics["cost"] == 0.055
    assert metrics["remaining_credits"] == 24.945
    assert metrics["queue_time"] + metrics["inference_time"] == pytest.approx(
        metrics["total_time"], abs=0.002
    )
    assert 2.85 <= metrics["total_time"] <= 3.15
    assert done.headers["x-remaining-credits"] == "24.945"


def test_result_names_the_pictures(world: Practice) -> None:
    request_id = world.accepted(samples=2, image_format="webp", seed=7)
    world.now += 4
    body = world.result(request_id).body
    assert body["seed"] == 7
    urls = [f"http://host:1/files/{request_id}/{n}.webp" for n in (1, 2)]
    assert body["output"] == urls
    assert [image["url"] for image in body["images"]] == urls
    assert all(isinstance(image["file_size"], SizeOf) for image in body["images"])
    painting = world.call("GET", f"/files/{request_id}/2.webp").body
    assert isinstance(painting, Painting)
    assert (painting.index, painting.content_type, painting.cut) == (1, "image/webp", False)


def test_one_picture_is_one_url_and_base64_is_no_url(world: Practice) -> None:
    plain, inline, both = (
        world.accepted(),
        world.accepted(base64=True),
        world.accepted(base64=True, samples=2),
    )
    world.now += 4
    assert world.result(plain).body["output"].endswith("/1.png")
    assert isinstance(world.result(inline).body["output"], Painting)
    assert "images" not in world.result(inline).body
    assert [type(part) for part in world.result(both).body["output"]] == [Painting, Painting]


def test_the_poll_url_of_v1_answers_as_well(world: Practice) -> None:
    reply = world.submit()
    assert reply.body["status"] == "QUEUED"
    assert reply.body["poll_url"] == f"http://host:1/v1/requests/{reply.body['request_id']}"
    assert reply.headers["x-request-id"] == reply.body["request_id"]
    world.now += 4
    path = reply.body["poll_url"].removeprefix("http://host:1")
    assert world.call("GET", path).body["status"] == "COMPLETED"


def test_a_result_lasts_an_hour_and_its_file_a_week(world: Practice) -> None:
    request_id = world.accepted()
    file = f"/files/{request_id}/1.png"
    assert world.call("GET", file).status == 404  # not finished yet
    world.now += 3599
    assert world.result(request_id).status == 200
    world.now += 2
    assert world.status(request_id).status == 404
    assert world.result(request_id).status == 404
    assert world.world.answer(Call("GET", file), world.now).status == 200  # without a key
    world.now += 7 * 86400
    assert world.call("GET", file).status == 404


@pytest.mark.parametrize("ending", ["0.png", "2.png", "1.jpeg", "01.png", "1.png/", "1.gif", "99999999.png"])
def test_files_that_do_not_exist(world: Practice, ending: str) -> None:
    request_id = world.accepted()
    world.now += 4
    assert world.call("GET", f"/files/{request_id}/{ending}").status == 404


def test_ids_are_uuids_and_differ_between_worlds(world: Practice) -> None:
    ids = {world.accepted() for _ in range(20)}
    other = World(WorldOptions(), Account(salt="other", balance=25), {})
    reply = other.answer(
        Call(
            "POST", "/v2/chroma", {"x-api-key": "k", "content-type": "application/json"}, b'{"prompt": "a"}'
        ),
        1.0,
    )
    assert len(ids | {reply.body["request_id"]}) == 21
    assert all(len(one) == 36 and one[14] == "4" and one[19] in "89ab" for one in ids)


def test_the_server_picks_a_seed_and_reports_it(world: Practice) -> None:
    ids = [
        world.accepted(),
        world.accepted(seed=-1),
        world.accepted(seed=None),
        world.accepted(seed=2**63 - 1),
    ]
    world.now += 4
    seeds = [world.result(one).body["seed"] for one in ids]
    assert len(set(seeds)) == 4
    assert all(0 <= seed <= schema.SEED_DRAWN_MAX for seed in seeds[:3])
    assert seeds[3] == 2**63 - 1


# --- v1 ----------------------------------------------------------------------------------------------------


def test_v1_waits_then_delivers_with_headers(world: Practice) -> None:
    reply = world.submit(version="v1", seed=5)
    assert reply.waits_for is not None
    assert 2.85 <= reply.wait <= 3.15
    final = world.world.finish(reply.waits_for, world.now)  # even where the wall clock stood still
    assert isinstance(final.body, Painting)
    assert final.headers["x-request-id"] == reply.waits_for
    assert final.headers["x-cost"] == "0.055"
    assert final.headers["x-seed-value"] == "5"
    assert final.headers["x-remaining-credits"] == "24.945"
    assert float(final.headers["x-generation-time"]) > 2
    assert world.result(reply.waits_for).status == 404  # there is nothing to fetch again


@pytest.mark.parametrize(
    ("more", "shape"),
    [
        ({"base64": True}, {"image": 1}),
        ({"samples": 3}, {"images": 3}),
        ({"samples": 2, "base64": True}, {"images": 2}),
    ],
)
def test_v1_json_shapes(world: Practice, more: dict[str, Any], shape: dict[str, int]) -> None:
    reply = world.submit(version="v1", **more)
    assert reply.waits_for is not None
    body = world.world.finish(reply.waits_for, world.now + 5).body
    assert {key: len(value) if isinstance(value, list) else 1 for key, value in body.items()} == shape


def test_v1_failure_is_a_422_with_a_terminal_status(world: Practice) -> None:
    reply = world.submit("[sandbox:fail] x", version="v1")
    assert reply.waits_for is not None
    final = world.world.finish(reply.waits_for, world.now + 5)
    assert (final.status, final.body["status"]) == (422, "FAILED")
    assert world.account.balance == 25


# --- what is refused ---------------------------------------------------------------------------------------

BAD = [
    {"steps": 5},
    {"steps": 40.0},
    {"steps": True},
    {"steps": "40"},
    {"cfg": 21},
    {"cfg": 10**400},
    {"cfg": "7"},
    {"cfg": False},
    {"samples": 0},
    {"samples": 10**400},
    {"seed": -2},
    {"seed": 1.5},
    {"image_format": "gif"},
    {"image_quality": 0},
    {"scheduler": "Karras"},
    {"sampler_name": "no such!"},
    {"sampler_name": 3},
    {"base64": "true"},
    {"aspect_ratio": "16:9"},
    {"aspect_ratio": "custom", "width": 640},
    {"aspect_ratio": "custom", "height": 2049},
    {"negative_prompt": None},
]


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_bad_body_fails_the_job_in_v2_and_the_call_in_v1(world: Practice, bad: dict[str, Any]) -> None:
    name = list(bad)[-1]
    refused = world.submit(version="v1", **bad)
    assert refused.status == 400
    assert name in refused.body["error"]
    request_id = world.accepted(**bad)
    world.now += 1
    for reply in (world.status(request_id), world.result(request_id)):
        assert reply.status == 422
        assert reply.body["status"] == "FAILED"
        assert name in reply.body["error"]
    assert world.account.balance == 25


GOOD = [
    {"sampler_name": "uni_pc"},
    {"width": 5, "height": "?"},  # not read beside a named ratio
    {"aspect_ratio": "custom", "width": 768, "height": 2048},
    {"cfg": 1, "steps": 75, "image_quality": 1},
    {"cfg": 7.5},
    {"nonsense": [1, 2], "seed": None},
    {"negative_prompt": ""},
]


@pytest.mark.parametrize("good", GOOD, ids=str)
def test_good_bodies(world: Practice, good: dict[str, Any]) -> None:
    request_id = world.accepted(**good)
    world.now += 4
    assert world.result(request_id).body["status"] == "COMPLETED"


def test_the_size_is_that_of_the_ratio(world: Practice) -> None:
    request_id = world.accepted(aspect_ratio="9:21 portrait 640x1536", width=1024, height=1024)
    request = world.jobs[request_id].request
    assert (request["width"], request["height"]) == (640, 1536)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"{}",
        b'{"prompt": ""}',
        b'{"prompt": " \\n"}',
        b'{"prompt": 3}',
        b'{"prompt": null}',
        b'{"prompt": "a", "cfg": NaN}',
        b"\xff\xfe",
        b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
    ],
)
def test_unreadable_bodies_are_400_at_once(world: Practice, version: str, body: bytes) -> None:
    reply = world.call("POST", f"/{version}/chroma", body)
    assert reply.status == 400
    assert reply.body["error"]
    assert not world.jobs


def test_content_type(world: Practice) -> None:
    for kind in ("text/plain", "", "application/jsonx"):
        reply = world.call("POST", "/v2/chroma", b'{"prompt": "a"}', content_type=kind)
        assert (reply.status, reply.body["error"]) == (406, "Invalid content type")
    assert (
        world.call(
            "POST", "/v2/chroma", b'{"prompt": "a"}', content_type="Application/JSON; charset=utf-8"
        ).status
        == 200
    )


def test_keys(world: Practice) -> None:
    path = "/v1/get-user-credits"
    for key in ("", "  "):
        refused = world.call("GET", path, x_api_key=key)
        assert refused.status == 401
        assert "x-api-key" in refused.body["error"]
        assert "Missing" in refused.body["error"]
    assert world.world.answer(Call("GET", path, {"authorization": "Bearer SG_1"}), 1.0).status == 401
    assert world.call("GET", path, x_api_key=magic.REFUSED_KEY).status == 401
    assert world.call("GET", path, x_api_key=magic.FORBIDDEN_KEY).status == 200
    assert world.call("POST", "/v2/chroma", b'{"prompt": "a"}', x_api_key=magic.FORBIDDEN_KEY).status == 403
    no_record = world.call("GET", path, x_api_key=magic.NO_BALANCE_KEY)
    assert (no_record.status, no_record.body["error"]) == (404, "No credits found for the user")
    assert world.call("GET", path).body == {"credits": 25.0, "free-credits": 0.0}


@pytest.mark.parametrize(
    "path", ["/", "/v3/chroma", "/v2/chromas", "/v2/chroma/", "/v2", "/v2/requests/a b", "/x" * 900]
)
def test_unknown_paths_are_404_json(world: Practice, path: str) -> None:
    reply = world.call("POST", path, b'{"prompt": "a"}')
    assert reply.status == 404
    assert reply.body["error"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v2/chroma", "POST"),
        ("HEAD", "/v1/chroma", "POST"),
        ("POST", "/v2/requests/abc", "GET"),
        ("HEAD", "/v2/requests/abc/status", "GET"),
        ("DELETE", "/v1/get-user-credits", "GET"),
        ("POST", "/files/abc/1.png", "GET, HEAD"),
    ],
)
def test_wrong_verb_is_405_html(world: Practice, method: str, path: str, allowed: str) -> None:
    reply = world.call(method, path)
    assert reply.status == 405
    assert reply.html is not None
    assert reply.html.startswith("<html>")
    assert reply.headers["Allow"] == allowed


# --- money and the rate ------------------------------------------------------------------------------------


def test_running_jobs_reserve_their_cost(make_world: Callable[..., Practice]) -> None:
    world = make_world(credits=0.12)
    world.accepted()
    world.accepted()
    refused = world.submit()
    assert (refused.status, refused.body) == (406, {"error": "Insufficient credits"})
    assert refused.headers["x-remaining-credits"] == "0.12"
    world.now += 4
    assert world.call("GET", "/v1/get-user-credits").body["credits"] == 0.01


def test_the_price(world: Practice) -> None:
    cheap = world.accepted(aspect_ratio="custom", width=768, height=768, steps=10, samples=3)
    large = world.accepted(aspect_ratio="custom", width=2048, height=2048, steps=60)
    assert world.jobs[cheap].cost == 0.165
    assert world.jobs[large].cost == 0.33
    world.now += 4
    assert world.call("GET", "/v1/get-user-credits").body["credits"] == pytest.approx(25 - 0.495)


def test_the_balance_is_full_again_after_a_day(make_world: Callable[..., Practice]) -> None:
    world = make_world(credits=0.06)
    world.accepted()
    world.now += 4
    assert world.submit().status == 406
    world.now += 86400
    assert world.submit().status == 200


def test_rate_limit(make_world: Callable[..., Practice]) -> None:
    world = make_world(rpm=3)
    request_id = world.accepted()
    assert world.status(request_id).status == 200
    assert world.call("GET", "/v1/get-user-credits").status == 200
    world.now += 20
    limited = world.status(request_id)
    assert limited.status == 429
    reset = datetime.fromisoformat(limited.headers["x-rate-limit-reset-at-utc"]).timestamp()
    assert reset == pytest.approx(world.now + 40, abs=0.01)
    assert world.call("GET", f"/files/{request_id}/1.png").status == 200  # files are elsewhere
    world.now = reset + 0.01
    assert world.status(request_id).status == 200


def test_no_rate_limit(make_world: Callable[..., Practice]) -> None:
    world = make_world(rpm=0)
    assert {world.call("GET", "/v1/get-user-credits").status for _ in range(2000)} == {200}


@pytest.mark.parametrize(
    "wrong",
    [{"latency": -1}, {"latency": float("nan")}, {"rpm": -1}, {"credits": float("inf")}, {"credits": -1}],
)
def test_options_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        WorldOptions(**wrong)


# --- magic prompts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "status", "text"),
    [
        ("unauthorized", 401, "key"),
        ("forbidden", 403, "permission"),
        ("retired", 410, "retired"),
        ("no-credits", 406, "Insufficient credits"),
        ("server-error", 500, "error"),
    ],
)
def test_refusing_words(world: Practice, word: str, status: int, text: str) -> None:
    for version in ("v1", "v2"):
        reply = world.submit(f"a knight [SANDBOX:{word}]", version=version)
        assert reply.status == status
        assert text in reply.body["error"]
    assert not world.jobs


@pytest.mark.parametrize(("word", "text"), [("fail", "failed"), ("block", "blocked")])
def test_failing_words(world: Practice, word: str, text: str) -> None:
    request_id = world.accepted(f"[sandbox:{word}]")
    world.now += 1
    assert world.status(request_id).body["status"] == "PROCESSING"
    world.now += 3
    reply = world.status(request_id)
    assert reply.status == 422
    assert text in reply.body["error"]
    assert reply.body["metrics"]["cost"] == 0
    assert world.account.balance == 25


def test_slow(world: Practice) -> None:
    request_id = world.accepted("[sandbox:slow]")
    world.now += 28
    assert world.status(request_id).body["status"] == "PROCESSING"
    world.now += 4
    assert world.status(request_id).body["status"] == "COMPLETED"


def test_rate_limit_word_refuses_twice_then_accepts_and_starts_over(world: Practice) -> None:
    for _ in range(2):
        for expected in (429, 429, 200):
            reply = world.submit("[sandbox:rate-limit] a")
            assert reply.status == expected
            if expected == 429:
                reset = datetime.fromisoformat(reply.headers["x-rate-limit-reset-at-utc"]).timestamp()
                assert reset == pytest.approx(world.now + 2, abs=0.01)
    assert world.submit("[sandbox:rate-limit] another prompt").status == 429
    assert len(world.jobs) == 2


def test_hiccup(world: Practice) -> None:
    assert [world.submit("[sandbox:hiccup]").status for _ in range(4)] == [503, 200, 503, 200]


def test_answers_that_get_lost_leave_a_job(world: Practice) -> None:
    assert world.submit("[sandbox:lost]").drop
    gateway = world.submit("[sandbox:bad-gateway]")
    assert gateway.status == 502
    assert gateway.html
    no_id = world.submit("[sandbox:no-id]")
    assert (no_id.status, "request_id" in no_id.body) == (200, False)
    assert len(world.jobs) == 3
    world.now += 4
    assert world.call("GET", "/v1/get-user-credits").body["credits"] == 24.835


def test_expired(world: Practice) -> None:
    assert world.status(world.accepted("[sandbox:expired]")).status == 404


def test_broken(world: Practice) -> None:
    always, once = world.accepted("[sandbox:broken]"), world.accepted("[sandbox:broken-once]", samples=2)
    world.now += 4
    assert [world.call("GET", f"/files/{always}/1.png").body.cut for _ in range(3)] == [True] * 3
    assert [world.call("GET", f"/files/{once}/1.png").body.cut for _ in range(3)] == [True, False, False]
    assert world.call("GET", f"/files/{once}/2.png").body.cut


def test_wrong_size_and_format(world: Practice) -> None:
    request_id = world.accepted("[sandbox:wrong-size] [sandbox:wrong-format]")
    world.now += 4
    painting = world.call("GET", f"/files/{request_id}/1.png").body
    assert painting.content_type == "image/png"
    assert painting.request["image_format"] == "jpeg"
    assert (painting.request["aspect_ratio"], painting.request["width"]) == ("custom", 768)


def test_terse(world: Practice) -> None:
    request_id = world.accepted("[sandbox:terse]")
    world.now += 4
    assert set(world.result(request_id).body) == {"request_id", "status", "output"}


def test_flaky_fails_two_in_five_but_never_five_in_a_row(make_world: Callable[..., Practice]) -> None:
    world = make_world(rpm=0)
    request_id = world.accepted("[sandbox:flaky]")
    world.now += 4
    good = [(reply := world.status(request_id)).status == 200 and not reply.drop for _ in range(600)]
    assert 0.5 < sum(good) / len(good) < 0.7
    runs = "".join("." if one else "x" for one in good)
    assert "xxxxx" not in runs
    kinds = {
        (reply.status, reply.drop, reply.html is not None) for reply in map(world.status, [request_id] * 200)
    }
    assert kinds >= {(500, False, False), (502, False, True), (503, False, False), (200, True, False)}


def test_an_unknown_word_is_refused_with_the_known_ones(world: Practice) -> None:
    reply = world.submit("[sandbox:fial]")
    assert reply.status == 400
    assert "fial" in reply.body["error"]
    assert "fail" in reply.body["error"]


def test_every_word_has_a_meaning_and_its_token_is_found() -> None:
    assert len({word.name for word in magic.MAGIC}) == len(magic.MAGIC)
    for word in magic.MAGIC:
        assert word.meaning
        assert magic.words_in(f"x{word.token}y") == {word.name}
        assert magic.unknown_in(word.token) == ()


# --- whatever comes ----------------------------------------------------------------------------------------

JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from([parameter.name for parameter in schema.PARAMETERS])
VALUES = JSONS | st.sampled_from([choice for parameter in schema.PARAMETERS for choice in parameter.choices])


def _sendable(part: object) -> object:
    return None if isinstance(part, Painting | SizeOf) else pytest.fail(f"{part!r} is no JSON")


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(NAMES, VALUES, max_size=8), st.sampled_from(magic.MAGIC), st.sampled_from(["v1", "v2"])
)
def test_any_body_gets_an_answer(body: dict[str, Any], word: magic.Magic, version: str) -> None:
    world = Practice()
    if isinstance(body.get("prompt"), str):
        body["prompt"] += word.token
    reply = world.call("POST", f"/{version}/chroma", json.dumps(body).encode())
    json.dumps(reply.body, default=_sendable)
    world.now += 40
    for job in list(world.jobs.values()):
        for path in (f"/v2/requests/{job.id}/status", f"/v2/requests/{job.id}"):
            json.dumps(world.call("GET", path).body, default=_sendable)
        json.dumps(world.world.finish(job.id, world.now).body, default=_sendable)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 5), st.booleans(), st.integers(1, 3)), max_size=25), st.floats(0, 1.5))
def test_money_goes_only_for_what_completed(steps: list[tuple[float, bool, int]], credits: float) -> None:
    world = Practice(WorldOptions(credits=credits))
    for pause, fails, samples in steps:
        world.now += pause
        world.submit("[sandbox:fail]" if fails else "fine", samples=samples)
        assert world.account.balance >= -1e-6
        assert world.account.available >= -1e-6
    world.now += 10
    world.call("GET", "/v1/get-user-credits")
    spent = sum(job.cost for job in world.jobs.values() if job.failure is None)
    assert world.account.balance == pytest.approx(credits - spent, abs=1e-4)
    assert world.account.open == []
