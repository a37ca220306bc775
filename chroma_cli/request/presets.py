"""Named sets of defaults: the four of the provider's usage guide, and those of the config file.

Where the guide gives a range, the middle is taken, rounded up. A preset is only a set of defaults: an option
given beside it wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

BUILT_IN: Final = "built-in"


@dataclass(frozen=True)
class Preset:
    """``values`` holds option names (``sampler``, not ``sampler_name``); ``source`` says who defined it."""

    name: str
    about: str
    values: Mapping[str, object]
    source: str = BUILT_IN


GUIDE: Final = (
    Preset(
        "photorealism",
        "e-commerce, architecture",
        {"aspect": "1:1", "cfg": 11, "steps": 55, "sampler": "dpmpp_2s_a", "scheduler": "karras"},
    ),
    Preset(
        "illustration",
        "comics, concept art",
        {"aspect": "3:4", "cfg": 8, "steps": 35, "sampler": "heun", "scheduler": "exponential"},
    ),
    Preset(
        "prototype",
        "storyboards, mood boards",
        {"size": "768x768", "cfg": 6, "steps": 23, "sampler": "euler", "scheduler": "beta"},
    ),
    Preset(
        "fine-art",
        "prints, posters",
        {"size": "2048x2048", "cfg": 14, "steps": 68, "sampler": "dpmpp_sde", "scheduler": "karras"},
    ),
)


def collect(tables: Mapping[str, Mapping[str, object]], source: str) -> dict[str, Preset]:
    """The guide's presets and the config file's tables; a table of the same name takes the guide's place."""
    presets = {preset.name: preset for preset in GUIDE}
    for name, values in tables.items():
        presets[name] = Preset(name, "", dict(values), source)
    return presets
