"""What a request body asks for: the checks the gateway makes, driven by the parameter table.

Pure. The table in ``request.schema`` says what is allowed; this module applies it to JSON values the way a
server does, without any of the client's conveniences.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from chroma_cli.request import schema

#: More pictures than this in one request the sandbox does not paint; the gateway documents no limit.
SAMPLES_MAX: Final = 256
#: Names of samplers that the documentation does not list pass when they look like one.
_SAMPLER_NAME: Final = re.compile(r"[a-z0-9_]{1,64}")


class Unreadable(Exception):
    """The body is not a JSON object with a prompt; the text is the gateway's answer."""


def read_body(body: bytes) -> dict[str, Any]:
    """The JSON object in ``body``, with a non-empty prompt.

    Raises Unreadable: both versions answer that with 400 at once.
    """
    try:
        parsed = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Unreadable("Invalid JSON in the request body") from None
    if not isinstance(parsed, dict):
        raise Unreadable("The request body must be a JSON object")
    prompt = parsed.get("prompt")
    if prompt is None:
        raise Unreadable("Missing required parameter: prompt")
    if not isinstance(prompt, str):
        raise Unreadable("Invalid parameter: prompt must be text")
    if not prompt.strip():
        raise Unreadable("Invalid parameter: prompt must not be empty")
    return parsed


def _refuse_constant(name: str) -> float:
    raise ValueError(name)  # NaN and the infinities are not JSON


def problems_in(body: dict[str, Any]) -> list[str]:
    """Every parameter with a value that is not allowed, in words. Unknown parameters are ignored."""
    unread = set() if body.get("aspect_ratio") == schema.CUSTOM else {"width", "height"}
    found = []
    for parameter in schema.PARAMETERS:
        if parameter.name in unread or parameter.name not in body:
            continue
        value = body[parameter.name]
        if value is None and parameter is schema.SEED:
            continue  # "leave blank for random variation"
        if not _allowed(parameter, value):
            found.append(f"{parameter.name} must be {parameter.allowed()}, got {_shown(value)}")
        elif parameter is schema.SAMPLES and value > SAMPLES_MAX:
            found.append(f"samples must be at most {SAMPLES_MAX} in the sandbox, got {_shown(value)}")
    return found


def _allowed(parameter: schema.Parameter, value: object) -> bool:
    match parameter.kind:
        case "text":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "choice":
            if not isinstance(value, str):
                return False
            return value in parameter.choices or (
                parameter.open_choices and _SAMPLER_NAME.fullmatch(value) is not None
            )
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool) and _in_range(parameter, value)
        case "number":
            return (
                isinstance(value, int | float) and not isinstance(value, bool) and _in_range(parameter, value)
            )


def _in_range(parameter: schema.Parameter, value: float) -> bool:
    low, high = parameter.minimum, parameter.maximum
    return (low is None or value >= low) and (high is None or value <= high)


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def effective(body: dict[str, Any], *, drawn_seed: int) -> dict[str, Any]:
    """The request as it runs: defaults filled in, unknown keys gone, the size and the seed settled.

    ``body`` has no problems. ``drawn_seed`` stands in where the seed was left to the server.
    ``width`` and ``height`` are the true size in pixels.
    """
    request: dict[str, Any] = {
        parameter.name: body.get(parameter.name, parameter.default) for parameter in schema.PARAMETERS
    }
    aspect = schema.ASPECT_BY_NAME.get(request["aspect_ratio"])
    if aspect is not None:
        request["width"], request["height"] = aspect.width, aspect.height
    if request["seed"] in (None, schema.SEED_SERVER):
        request["seed"] = drawn_seed
    return request


def cost_of(request: dict[str, Any]) -> float:
    """Price in dollars of an effective request: by workload, at least the typical price for each sample."""
    samples: int = request["samples"]
    work = schema.workload(request["steps"], request["width"] * request["height"], samples)
    return round(schema.TYPICAL_COST * max(float(samples), work), 6)
