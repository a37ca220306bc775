"""Placeholder pictures: true size and format, the same twice, different otherwise, and marked."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat

from chroma_cli.request import schema
from chroma_cli.sandbox import intake, painter


def request_for(prompt: str = "a knight", **more: Any) -> dict[str, Any]:
    return intake.effective({"prompt": prompt, **more}, drawn_seed=1)


def small(prompt: str = "a knight", **more: Any) -> dict[str, Any]:
    """Smaller than the gateway allows: the painter does not mind, and the tests are quicker."""
    return request_for(prompt, aspect_ratio="custom", **{"width": 320, "height": 256, **more})


def painted(request: dict[str, Any], seed: int = 1, index: int = 0) -> Image.Image:
    with Image.open(io.BytesIO(painter.paint(request, seed=seed, index=index))) as image:
        image.load()
        return image.copy()


def distance(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of a channel, 0 to 255."""
    means = ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).mean
    return float(sum(means) / len(means))


@pytest.mark.parametrize("aspect", schema.ASPECTS, ids=lambda aspect: aspect.ratio)
def test_named_ratios_have_their_size(aspect: schema.Aspect) -> None:
    request = request_for(aspect_ratio=aspect.name)
    assert painter.size_of(request) == (aspect.width, aspect.height)


@pytest.mark.parametrize("size", [(768, 1024), (576, 480)])
def test_own_sizes(size: tuple[int, int]) -> None:
    request = request_for(aspect_ratio="custom", width=size[0], height=size[1])
    assert painted(request).size == size


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_formats_carry_a_mark_for_programs(image_format: str) -> None:
    data = painter.paint(small(image_format=image_format), seed=1, index=0)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == image_format.upper()
        assert image.mode == "RGB"
        said = {"png": "Software", "jpeg": "comment", "webp": "xmp"}[image_format]
        software = image.info[said]
        assert "chroma sandbox" in (software if isinstance(software, str) else software.decode())


@pytest.mark.parametrize("image_format", ["jpeg", "webp"])
def test_quality_is_obeyed(image_format: str) -> None:
    low, high = (
        len(painter.paint(small(image_format=image_format, image_quality=quality), seed=1, index=0))
        for quality in (5, 95)
    )
    assert low * 2 < high


def test_size_of_the_file_is_that_of_a_photograph() -> None:
    assert 300_000 < len(painter.paint(request_for(), seed=1, index=0)) < 3_000_000


def test_the_same_request_gives_the_same_bytes() -> None:
    assert painter.paint(small(), seed=3, index=1) == painter.paint(small(), seed=3, index=1)


def test_prompt_seed_and_sample_change_the_picture() -> None:
    base = painted(small())
    others = [painted(small("a fox")), painted(small(), seed=2), painted(small(), index=1)]
    assert all(distance(base, other) > 8 for other in others)
    assert distance(others[1], others[2]) > 8


def test_cfg_and_steps_show_in_the_picture() -> None:
    base = painted(small())
    assert distance(base, painted(small(cfg=15))) > 0.5
    assert distance(base, painted(small(steps=10))) > 0.5


@pytest.mark.parametrize("motif_word", ["castle", "forest", "city", "lake", "planet", ""])
def test_every_motif_is_marked_in_the_corner_and_below(motif_word: str) -> None:
    image = painted(small(f"{motif_word} view"))
    unit = min(image.size) // 100
    below = image.crop((0, image.height - 5 * unit, 30, image.height))
    corner = image.crop((image.width - 30 * unit, 0, image.width, 30 * unit))
    assert share_of_mark(below) > 0.4
    assert share_of_mark(corner) > 0.08


def share_of_mark(part: Image.Image) -> float:
    """How much of ``part`` has about the yellow of the mark."""
    off = ImageChops.difference(part, Image.new("RGB", part.size, (255, 196, 0)))
    near = [band.point([255 if level < 40 else 0 for level in range(256)]) for band in off.split()]
    return (
        float(ImageStat.Stat(ImageChops.darker(ImageChops.darker(near[0], near[1]), near[2])).mean[0]) / 255
    )


@pytest.mark.parametrize(
    "prompt",
    [
        "日本語の猫",
        "قطة",
        "\U0001f600\U0001f600",
        "\x00\x1b[31m",
        "\ud800",
        "Ünïcödé",
        "word " * 2000,
        "x" * 9000,
        "\n",
    ],
    ids=ascii,
)
def test_any_script_can_be_painted(prompt: str) -> None:
    assert painted(small(prompt[:9000])).size == (320, 256)
