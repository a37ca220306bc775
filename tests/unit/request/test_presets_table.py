"""The guide's presets and the parameter table against the published pages, copied here by hand."""

from __future__ import annotations

import pytest

from chroma_cli.request import builder, presets, schema
from chroma_cli.request.builder import Level

GUIDE = {
    "photorealism": ("1:1 square 1024x1024", 1024, 1024, 11, 55, "dpmpp_2s_a", "karras"),
    "illustration": ("3:4 portrait 896x1152", 896, 1152, 8, 35, "heun", "exponential"),
    "prototype": ("custom", 768, 768, 6, 23, "euler", "beta"),
    "fine-art": ("custom", 2048, 2048, 14, 68, "dpmpp_sde", "karras"),
}


def test_the_guide_has_four() -> None:
    assert set(presets.collect({}, "config")) == set(GUIDE)


@pytest.mark.parametrize("name", GUIDE)
def test_a_preset_makes_the_request_that_the_guide_advises(name: str) -> None:
    built = builder.build(
        [Level({"prompt": "x", "preset": name})], presets.collect({}, ""), draw_seed=lambda: 1
    )
    one = built.request
    shape = (one.aspect_ratio, one.width, one.height)
    assert (*shape, one.cfg, one.steps, one.sampler_name, one.scheduler) == GUIDE[name]
    assert built.preset == name
    assert built.warnings == ()


def test_a_table_of_the_same_name_takes_the_place_of_the_guides() -> None:
    found = presets.collect({"prototype": {"steps": 10}, "mine": {}}, "my file")
    assert set(found) == {*GUIDE, "mine"}
    assert found["prototype"].values == {"steps": 10}
    assert found["prototype"].source == "my file"
    assert found["fine-art"].source == presets.BUILT_IN


RANGES = {
    "width": (768, 2048),
    "height": (768, 2048),
    "cfg": (1, 20),
    "steps": (10, 75),
    "seed": (-1, 2**63 - 1),
    "samples": (1, None),
    "image_quality": (1, 100),
}


def test_the_ranges_are_the_documented_ones() -> None:
    found = {p.name: (p.minimum, p.maximum) for p in schema.PARAMETERS if p.minimum is not None}
    assert found == RANGES


def test_every_parameter_has_help_and_a_name_of_its_own() -> None:
    assert len(schema.BY_NAME) == len(schema.BY_OPTION) == len(schema.PARAMETERS) == 14
    assert all(parameter.help.endswith(".") for parameter in schema.PARAMETERS)


@pytest.mark.parametrize("aspect", schema.ASPECTS, ids=lambda aspect: aspect.ratio)
def test_the_aspects_tell_the_truth_about_themselves(aspect: schema.Aspect) -> None:
    across, down = (int(part) for part in aspect.ratio.split(":"))
    assert aspect.width / aspect.height == pytest.approx(across / down, rel=0.1)
    shape = "square" if across == down else "landscape" if across > down else "portrait"
    assert aspect.shape == shape
    assert schema.has_own_size(aspect) == (640 not in (aspect.width, aspect.height))


def test_the_typical_picture_is_one_workload() -> None:
    assert schema.workload(40, 1024 * 1024, 1) == 1.0
    assert schema.workload(20, 2048 * 2048, 3) == 6.0
