"""The "parameters" text of the local tools: writing it for their readers, reading what other tools wrote.

    a young knight
    Negative prompt: blurry
    Steps: 40, Sampler: Euler, Schedule type: Beta, CFG scale: 7, Seed: 7, Size: 1024x1024, Model: Chroma

It has no escaping for prompts: a reader takes the last line of settings, and what stands before the words
``Negative prompt:`` as the prompt. Source: the widely used web UI whose names and quoting these are (labels
of its samplers and schedules; a value with a comma, colon or newline in it stands as a JSON string).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from chroma_cli.request import schema, values
from chroma_cli.request.builder import ImageRequest
from chroma_cli.request.values import Unfit
from chroma_cli.text import CONTROL

MODEL: Final = "Chroma"
#: What a picture of the practice gateway says instead: no model has painted it.
SANDBOX_MODEL: Final = "Chroma sandbox"

_NEGATIVE: Final = "Negative prompt:"
#: At least so many known settings make a line the line of settings.
_ENOUGH: Final = 3
_SHORTEST: Final = len("Seed:Size:Steps:,,")

SAMPLER_LABELS: Final = {
    "euler": "Euler",
    "euler_a": "Euler a",
    "heun": "Heun",
    "dpm_2": "DPM2",
    "dpm_2_a": "DPM2 a",
    "lms": "LMS",
    "dpm_fast": "DPM fast",
    "dpm_adaptive": "DPM adaptive",
    "dpmpp_2s_a": "DPM++ 2S a",
    "dpmpp_sde": "DPM++ SDE",
}
SCHEDULE_LABELS: Final = {
    "normal": "Normal",
    "karras": "Karras",
    "exponential": "Exponential",
    "beta": "Beta",
    "sgm_uniform": "SGM Uniform",
    "simple": "Simple",
}
_LONG_WORDS: Final = (("dpmpp", "dpm++"), ("ancestral", "a"))


@dataclass(frozen=True)
class Reading:
    """What a text says, in the gateway's names; ``left_out`` are the settings that this model does not
    have or allow, as they stand in the text."""

    request: Mapping[str, Any]
    left_out: tuple[str, ...] = ()


def write(request: ImageRequest, *, seed: int, sandbox: bool) -> str:
    """The text for one picture; ``seed`` is the one it was made with, whoever drew it."""
    width, height = request.size
    settings = {
        "Steps": request.steps,
        "Sampler": SAMPLER_LABELS.get(request.sampler_name, request.sampler_name),
        "Schedule type": SCHEDULE_LABELS.get(request.scheduler, request.scheduler),
        "CFG scale": request.cfg,
        "Seed": seed,
        "Size": f"{width}x{height}",
        "Model": SANDBOX_MODEL if sandbox else MODEL,
    }
    lines = [_harmless(request.prompt)]
    if request.negative_prompt:
        lines.append(f"{_NEGATIVE} {_harmless(request.negative_prompt)}")
    lines.append(", ".join(f"{name}: {_quoted(str(value))}" for name, value in settings.items()))
    return "\n".join(lines)


def _harmless(prompt: str) -> str:
    """The prompt without the words that would end it for every reader; the exact one is in the XMP packet."""
    return prompt.replace(_NEGATIVE, "Negative prompt :")


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if any(ch in value for ch in ",:\n") else value


def read(text: str) -> Reading | None:
    """What maps to this model, or None where the text is no recipe. Never fails, takes linear time."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for at in range(len(lines) - 1, -1, -1):
        line = lines[at]
        if len(line) < _SHORTEST or sum(f"{name}:" in line for name in _TAKERS) < _ENOUGH:
            continue  # before the costlier look
        settings = dict(_pairs(line))
        if len(_TAKERS.keys() & settings.keys()) >= _ENOUGH:
            return _Mapping(settings).reading(lines[:at])
    return None


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    """``name: value`` pairs between commas; a value that begins with a quote goes on to the closing one."""
    at = 0
    while at < len(line):
        comma = line.find(",", at)
        colon = line.find(":", at, comma if comma >= 0 else len(line))
        end = comma if comma >= 0 else len(line)
        if colon >= 0:
            start = colon + 1
            while start < len(line) and line[start] == " ":
                start += 1
            value = line[start:end]
            if line[start : start + 1] == '"':
                closing = _closing_quote(line, start)
                if closing > 0:
                    value = _unquoted(line[start : closing + 1])
                    comma = line.find(",", closing)
                    end = comma if comma >= 0 else len(line)
            yield line[at:colon].strip(), value.strip()
        at = end + 1


def _closing_quote(line: str, start: int) -> int:
    at = start + 1
    while at < len(line):
        if line[at] == '"':
            return at
        at += 2 if line[at] == "\\" else 1
    return -1


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return text


class _Mapping:
    """From the settings of one text to the gateway's parameters."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.settings = settings
        self.request: dict[str, Any] = {}
        self.left_out: list[str] = []

    def reading(self, lines: list[str]) -> Reading:
        prompt, negative = _prompts(lines)
        if prompt:
            self.request["prompt"] = prompt
        # These tools leave the line out when there is none: that is no wish for our default.
        self.request["negative_prompt"] = negative
        for name, take in _TAKERS.items():
            value = self.settings.get(name)
            if value is None:
                continue
            try:
                take(self, value)
            except Unfit:
                self.left_out.append(f"{name}: {value}")
        return Reading(self.request, tuple(self.left_out))

    def steps(self, value: str) -> None:
        self.request["steps"] = values.integer(schema.STEPS, value)

    def cfg(self, value: str) -> None:
        self.request["cfg"] = values.number(schema.CFG, value)

    def seed(self, value: str) -> None:
        seed = values.integer(schema.SEED, value)
        if seed < 0:
            raise Unfit("the seed is not known")
        self.request["seed"] = seed

    def size(self, value: str) -> None:
        width, height = values.size(value)
        named = next((one for one in schema.ASPECTS if (one.width, one.height) == (width, height)), None)
        if named is not None:
            self.request["aspect_ratio"] = named.name
            return
        sides = {
            "width": values.integer(schema.WIDTH, width),
            "height": values.integer(schema.HEIGHT, height),
        }
        self.request.update(aspect_ratio=schema.CUSTOM, **sides)

    def sampler(self, value: str) -> None:
        name = _sampler_name(value)
        schedule = None
        if name is None:  # older versions had one name for both: "DPM++ SDE Karras"
            head, _, last = value.rpartition(" ")
            name, schedule = _sampler_name(head), _SCHEDULES.get(_folded(last))
            if schedule is None:
                name = None
        if name is None and self.settings.get("Model") in (MODEL, SANDBOX_MODEL):
            name = values.choice(schema.SAMPLER, value)  # one of ours that the documentation does not name
        if name is None:
            raise Unfit("this model has no such sampler")
        self.request["sampler_name"] = name
        if schedule is not None:
            self.request["scheduler"] = schedule

    def scheduler(self, value: str) -> None:
        name = _SCHEDULES.get(_folded(value))
        if name is None:
            raise Unfit("this model has no such schedule")
        self.request["scheduler"] = name


#: In this order, so that a schedule of its own wins over the end of a sampler's name.
_TAKERS: Final[dict[str, Callable[[_Mapping, str], None]]] = {
    "Steps": _Mapping.steps,
    "Sampler": _Mapping.sampler,
    "Schedule type": _Mapping.scheduler,
    "CFG scale": _Mapping.cfg,
    "Seed": _Mapping.seed,
    "Size": _Mapping.size,
}


def _folded(name: str) -> str:
    """A name without what tools differ in: capitals, spaces, underscores, a leading ``k_``."""
    folded = name.strip().casefold().replace("-", "_").replace(" ", "_").removeprefix("k_")
    for long, short in _LONG_WORDS:
        folded = folded.replace(long, short)
    return folded.replace("_", "")


_SAMPLERS: Final = {_folded(word): name for name, label in SAMPLER_LABELS.items() for word in (name, label)}
_SCHEDULES: Final = {_folded(word): name for name, label in SCHEDULE_LABELS.items() for word in (name, label)}


def _sampler_name(value: str) -> str | None:
    return _SAMPLERS.get(_folded(value))


def _prompts(lines: list[str]) -> tuple[str, str]:
    """The prompt, and what stands from the line that begins with the negative one's name."""
    at = next((at for at, line in enumerate(lines) if line.lstrip().startswith(_NEGATIVE)), len(lines))
    negative = "\n".join(lines[at:]).lstrip().removeprefix(_NEGATIVE)
    return _clean("\n".join(lines[:at])), _clean(negative)


def _clean(prompt: str) -> str:
    """Without what no prompt may hold here."""
    return CONTROL.sub("", prompt).strip()
