"""The model's parameters as one table, and the facts of the two seed pages about them.

Validation, option help, presets and the sandbox all read this table, so that a limit stands in one place.
Sources: the provider's API page and usage guide of the model ``chroma``; where a note says "inferred", the
reason is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["text", "integer", "number", "choice", "boolean"]
Default = str | int | float | bool | None

#: A picture at these settings takes about this long (API page) and costs
#: about this much (an earlier copy of it).
TYPICAL_SECONDS: Final = 53.06
TYPICAL_COST: Final = 0.055
TYPICAL_STEPS: Final = 40
TYPICAL_PIXELS: Final = 1024 * 1024


@dataclass(frozen=True)
class Parameter:
    """One row: ``name`` is the gateway's, ``option`` the command line's (with ``_`` for ``-``)."""

    name: str
    option: str
    kind: Kind
    default: Default
    help: str
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    #: The page names only some of the values: an unknown one is sent, with a warning.
    open_choices: bool = False
    #: Other spellings a user may type, and what they stand for.
    aliases: tuple[tuple[str, str], ...] = ()
    unit: str = ""
    advice: str = ""

    @property
    def flag(self) -> str:
        return "--" + self.option.replace("_", "-")

    def allowed(self) -> str:
        """The allowed values as words, for messages and help."""
        if self.kind == "choice":
            return "one of " + ", ".join(self.choices)
        if self.kind == "boolean":
            return "true or false"
        if self.kind == "text":
            return "text"
        noun = "a whole number" if self.kind == "integer" else "a number"
        unit = f" {self.unit}" if self.unit else ""
        if self.minimum is not None and self.maximum is not None:
            return f"{noun} from {self.minimum} to {self.maximum}{unit}"
        if self.minimum is not None:
            return f"{noun} from {self.minimum}{unit} up"
        return noun + unit


@dataclass(frozen=True)
class Aspect:
    """A named ratio of the gateway with the size that stands in its name, in pixels."""

    name: str
    ratio: str
    shape: str
    width: int
    height: int


def _aspect(name: str) -> Aspect:
    ratio, shape, size = name.split(" ")
    width, height = size.split("x")
    return Aspect(name, ratio, shape, int(width), int(height))


CUSTOM: Final = "custom"
ASPECTS: Final = tuple(
    _aspect(name)
    for name in (
        "1:1 square 1024x1024",
        "3:4 portrait 896x1152",
        "5:8 portrait 832x1216",
        "9:16 portrait 768x1344",
        "9:21 portrait 640x1536",
        "4:3 landscape 1152x896",
        "3:2 landscape 1216x832",
        "16:9 landscape 1344x768",
        "21:9 landscape 1536x640",
    )
)
ASPECT_BY_NAME: Final = {aspect.name: aspect for aspect in ASPECTS}

#: The gateway's values are capped at what fits a signed 64-bit integer; a seed drawn here stays in 32 bits.
SEED_MAX: Final = 2**63 - 1
SEED_DRAWN_MAX: Final = 2**32 - 1
#: Asks the server to pick the seed and to report it (provider's documentation).
SEED_SERVER: Final = -1
SEED_RANDOM: Final = "random"

SIZE_MIN: Final = 768
SIZE_MAX: Final = 2048
SIZE_DEFAULT: Final = 1024

PROMPT = Parameter(
    "prompt",
    "prompt",
    "text",
    None,
    "What the picture shows.",
    advice="specific prompts and style cues work best; iterate from a strong core prompt",
)
NEGATIVE_PROMPT = Parameter(
    "negative_prompt",
    "negative_prompt",
    "text",
    "low quality, ugly, deformed, blurry, bad anatomy, distorted, unrealistic",
    "What to keep out of the picture.",
    advice="use it against artefacts",
)
ASPECT_RATIO = Parameter(
    "aspect_ratio",
    "aspect",
    "choice",
    "1:1 square 1024x1024",
    "Shape of the picture: a ratio (16:9), square, portrait, landscape, or the full name.",
    choices=(CUSTOM, *(aspect.name for aspect in ASPECTS)),
    # The guide names 896x1152 for portraits and 1344x768 for landscapes.
    aliases=(
        ("square", "1:1 square 1024x1024"),
        ("portrait", "3:4 portrait 896x1152"),
        ("landscape", "16:9 landscape 1344x768"),
    ),
    advice="square for social media, 3:4 for portraits, 16:9 for landscapes",
)
WIDTH = Parameter("width", "width", "integer", 1024, "Width of the picture.", SIZE_MIN, SIZE_MAX, unit="px")
HEIGHT = Parameter(
    "height", "height", "integer", 1024, "Height of the picture.", SIZE_MIN, SIZE_MAX, unit="px"
)
CFG = Parameter(
    "cfg",
    "cfg",
    "number",
    7,
    "How closely the picture follows the prompt.",
    1,
    20,
    advice="5-7 for artistic exploration, 8-12 for photorealism, up to 15 for the closest match",
)
SAMPLER = Parameter(
    "sampler_name",
    "sampler",
    "choice",
    "euler",
    "Sampling method; other names are sent with a warning.",
    choices=(
        "euler",
        "euler_a",
        "heun",
        "dpm_2",
        "dpm_2_a",
        "lms",
        "dpm_fast",
        "dpm_adaptive",
        "dpmpp_2s_a",
        "dpmpp_sde",
    ),
    open_choices=True,  # the page says "+2 more" and does not name them
    advice="euler, euler_a for speed; heun, lms smoother; dpmpp_2s_a, dpmpp_sde highest fidelity",
)
SCHEDULER = Parameter(
    "scheduler",
    "scheduler",
    "choice",
    "beta",
    "Noise schedule.",
    choices=("normal", "karras", "exponential", "beta", "sgm_uniform", "simple"),
    advice="karras or beta for smooth schedules, exponential more stylized",
)
STEPS = Parameter(
    "steps",
    "steps",
    "integer",
    40,
    "Denoising steps.",
    10,
    75,
    advice="20-30 for drafts, 40-50 balanced, 60-75 ultra-fine",
)
SEED = Parameter(
    "seed",
    "seed",
    "integer",
    None,  # the 123456789 of the pages is only an example
    "Fixes the randomness: a number, or random.",
    SEED_SERVER,
    SEED_MAX,
    advice="left out, every run draws its own; -1 lets the server pick",
)
SAMPLES = Parameter(
    "samples",
    "samples",
    "integer",
    1,
    "How many pictures.",
    1,
    advice="3 to 5 to explore variations",
)
IMAGE_FORMAT = Parameter(
    "image_format",
    "format",
    "choice",
    "png",
    "File format.",
    choices=("png", "jpeg", "webp"),
    aliases=(("jpg", "jpeg"),),
    advice="left out, it follows the ending of -o",
)
IMAGE_QUALITY = Parameter(
    "image_quality",
    "quality",
    "integer",
    95,
    "Quality of JPEG and WebP.",
    1,
    100,
    advice="95 for fine detail",
)
BASE64 = Parameter(
    "base64",
    "base64",
    "boolean",
    False,
    "Have the picture sent inside the JSON answer.",
    advice="always sent, because the provider's two pages disagree on its default",
)

#: In the order of the gateway's page, which is the order of the payload.
PARAMETERS: Final = (
    PROMPT,
    NEGATIVE_PROMPT,
    ASPECT_RATIO,
    WIDTH,
    HEIGHT,
    CFG,
    SAMPLER,
    SCHEDULER,
    STEPS,
    SEED,
    SAMPLES,
    IMAGE_FORMAT,
    IMAGE_QUALITY,
    BASE64,
)
BY_NAME: Final = {parameter.name: parameter for parameter in PARAMETERS}
BY_OPTION: Final = {parameter.option: parameter for parameter in PARAMETERS}


def workload(steps: int, pixels: int, samples: int) -> float:
    """How much work a request is, where the documented typical picture is 1.0.

    Time and cost are taken to grow with steps x pixels x samples (inferred: a denoising step costs the same
    for each pixel and each sample).
    """
    return steps * pixels * samples / (TYPICAL_STEPS * TYPICAL_PIXELS)


def has_own_size(aspect: Aspect) -> bool:
    """Whether width and height may go out beside the named ratio: both within the documented limits."""
    return SIZE_MIN <= min(aspect.width, aspect.height) and max(aspect.width, aspect.height) <= SIZE_MAX
