"""The provider's own SDK, as it is on PyPI, against the sandbox."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

import httpx
import pytest
import segmind
from kit import Programs, eventually
from PIL import Image
from segmind import InferenceFailed, InferenceTimeout, SegmindClient, SegmindError

PARAMETERS = {
    "prompt": "a young knight",
    "negative_prompt": "blurry",
    "width": 768,
    "height": 768,
    "aspect_ratio": "custom",
    "cfg": 7,
    "sampler_name": "euler",
    "scheduler": "beta",
    "steps": 40,
    "seed": 123456789,
    "samples": 1,
    "image_format": "png",
    "image_quality": 95,
    "base64": False,
}


@contextlib.contextmanager
def sandbox(latency: float) -> Iterator[str]:
    """``chroma sandbox``, and its address as the SDK wants it."""
    programs = Programs()
    try:
        server = programs.start("sandbox", "--latency", str(latency), "--rpm", "0")
        url = eventually(lambda: server.out.partition("\n")[0], "its address")
        yield f"{url}/v1"
    finally:
        programs.clear_up()


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with sandbox(0.05) as url:
        yield url


@pytest.fixture
def client(base_url: str) -> Iterator[SegmindClient]:
    made = SegmindClient(api_key="SG_sdk", base_url=base_url)
    yield made
    made._client.close()


def picture(data: bytes) -> tuple[str | None, tuple[int, int]]:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.format, image.size


def test_submit_wait_status_result(client: SegmindClient) -> None:
    job = client.submit_async("chroma", **PARAMETERS)
    assert job.submit_response["status"] == "QUEUED"
    result = job.wait(timeout=10, interval=0.02)
    assert job.status()["status"] == result["status"] == job.result()["status"] == "COMPLETED"
    assert result["metrics"]["inference_time"] > 0
    assert result["seed"] == 123456789
    assert picture(httpx.get(result["output"]).content) == ("PNG", (768, 768))
    assert len(httpx.get(result["output"]).content) == result["images"][0]["file_size"]


@pytest.mark.slow
def test_run(client: SegmindClient) -> None:
    result = client.run("chroma", **PARAMETERS | {"samples": 2, "image_format": "webp"})
    assert [picture(httpx.get(url).content)[0] for url in result["output"]] == ["WEBP", "WEBP"]


@pytest.mark.slow
def test_run_of_the_module(client: SegmindClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmind, "_default_client", client)
    assert segmind.run("chroma", **PARAMETERS)["status"] == "COMPLETED"
    assert picture(segmind.run_sync("chroma", **PARAMETERS).content)[0] == "PNG"


def test_run_sync(client: SegmindClient) -> None:
    response = client.run_sync("chroma", **PARAMETERS | {"image_format": "jpeg"})
    assert picture(response.content) == ("JPEG", (768, 768))
    assert response.headers["content-type"] == "image/jpeg"
    assert response.headers["x-seed-value"] == "123456789"
    assert float(response.headers["x-remaining-credits"]) < 25


@pytest.mark.parametrize(("word", "text"), [("fail", "failed"), ("block", "blocked")])
def test_failures(client: SegmindClient, word: str, text: str) -> None:
    job = client.submit_async("chroma", **PARAMETERS | {"prompt": f"[sandbox:{word}]"})
    with pytest.raises(InferenceFailed) as caught:
        job.wait(timeout=10, interval=0.02)
    assert text in str(caught.value.detail)
    assert caught.value.status_body["status"] == "FAILED"
    assert job.result()["status"] == "FAILED"


@pytest.mark.slow
def test_a_bad_parameter_fails_the_job(client: SegmindClient) -> None:
    with pytest.raises(InferenceFailed, match="steps"):
        client.submit_async("chroma", **PARAMETERS | {"steps": 9}).wait(timeout=10, interval=0.05)


@pytest.mark.slow
def test_deadline() -> None:
    with sandbox(60) as url:
        client = SegmindClient(api_key="SG_sdk", base_url=url)
        job = client.submit_async("chroma", **PARAMETERS)
        with pytest.raises(InferenceTimeout) as caught:
            job.wait(timeout=0.05, interval=0.05)
        assert caught.value.request_id == job.request_id
        assert job.status()["status"] in ("QUEUED", "PROCESSING")
        client._client.close()


@pytest.mark.slow
def test_run_sync_gives_up_reading_before_a_slow_job_is_done() -> None:
    with sandbox(60) as url:
        client = SegmindClient(api_key="SG_sdk", base_url=url, timeout=0.3)
        with pytest.raises(httpx.ReadTimeout):
            client.run_sync("chroma", **PARAMETERS)
        client._client.close()


def test_errors_have_their_status(client: SegmindClient, base_url: str) -> None:
    refused = SegmindClient(api_key="SG_0000000000000401", base_url=base_url)
    calls = {
        401: lambda: refused.submit_async("chroma", **PARAMETERS),
        404: lambda: client.submit_async("no-such-model", **PARAMETERS),
        406: lambda: client.run_sync("chroma", **PARAMETERS | {"prompt": "[sandbox:no-credits]"}),
        429: lambda: client.run("chroma", **PARAMETERS | {"prompt": "[sandbox:rate-limit]"}),
        500: lambda: client.run("chroma", **PARAMETERS | {"prompt": "[sandbox:server-error]"}),
        400: lambda: client.run_sync("chroma", **PARAMETERS | {"cfg": 99}),
    }
    for status, call in calls.items():
        with pytest.raises(SegmindError) as caught:
            call()
        assert caught.value.status == status
        assert caught.value.detail
    refused._client.close()


def test_an_answer_that_never_comes(client: SegmindClient) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        client.submit_async("chroma", **PARAMETERS | {"prompt": "[sandbox:lost]"})


@pytest.mark.slow
def test_an_unknown_request(client: SegmindClient) -> None:
    job = client.submit_async("chroma", **PARAMETERS)
    job.status_url = job.status_url.replace(job.request_id, "0" * 36)
    with pytest.raises(SegmindError) as caught:
        job.wait(timeout=1)
    assert caught.value.status == 404
