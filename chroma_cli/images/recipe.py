"""What made this picture: the recipe, to and from the metadata of a file, to options and to a command line.

Two forms go into a file: an XMP packet with the exact request as JSON (and the words that a model has made
the picture), and the "parameters" text that other tools read. The first is what comes back, if it is there.
"""

from __future__ import annotations

import errno
import json
import re
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from chroma_cli import __version__
from chroma_cli.errors import NotFound
from chroma_cli.images import containers, parameters, xmp
from chroma_cli.images.parts import Damaged, Found, Metadata
from chroma_cli.request import builder, schema
from chroma_cli.request.builder import ImageRequest
from chroma_cli.text import command_line, quoted

#: IPTC's name for a picture that a trained model has made.
TRAINED_MODEL: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
TOOL: Final = f"chroma {__version__}"

Origin = Literal["chroma", "parameters"]

_SCHEMA: Final = 1
_SHAPE: Final = (schema.ASPECT_RATIO, schema.WIDTH, schema.HEIGHT)
_SHAPE_OPTIONS: Final = frozenset(("aspect", "size", "width", "height"))
#: One argument of a command may be 128 KB on Linux; a longer prompt has to come through stdin.
_LONGEST_ARGUMENT: Final = 100_000
#: More than any job has: such a number in a file is nonsense.
_MOST_SAMPLES: Final = 1_000_000_000
_PROPERTIES: Final = (xmp.RECIPE, xmp.CREATOR_TOOL, xmp.CREATE_DATE)
#: JSON keeps these characters as they are, XML 1.0 has no place for them or readers drop them.
_NOT_FOR_XML: Final = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


@dataclass(frozen=True)
class Recipe:
    """How a picture was made.

    ``request`` is the exact body that was sent (``origin`` chroma) or what maps of another tool's text
    (``origin`` parameters), in the gateway's names, unchecked: it came from a file. ``seed`` is the one that
    the picture was made with, where that is known; ``sample`` is which of the pictures of its job it is,
    counted from 1, None where it is the only one; ``created`` is UTC; ``left_out`` are the settings of a text
    that this model does not have or allow.
    """

    request: Mapping[str, Any]
    origin: Origin = "chroma"
    request_id: str | None = None
    created: str | None = None
    tool: str | None = TOOL
    sandbox: bool = False
    seed: int | None = None
    sample: int | None = None
    left_out: tuple[str, ...] = ()

    def options(self) -> dict[str, object]:
        """By option name, for a :class:`builder.Level` that checks them anew; never ``samples``."""
        options: dict[str, object] = {}
        for parameter in schema.PARAMETERS:
            value = self.request.get(parameter.name)
            if value is not None and parameter is not schema.SAMPLES and parameter not in _SHAPE:
                options[parameter.option] = value
        if self.seed is not None:
            options["seed"] = self.seed
        return {**options, **self._shape()}

    def _shape(self) -> dict[str, object]:
        aspect, width, height = (self.request.get(parameter.name) for parameter in _SHAPE)
        if aspect is not None and aspect != schema.CUSTOM:
            return {"aspect": aspect}  # its own width and height go out with it again
        if type(width) is int and type(height) is int:
            return {"size": f"{width}x{height}"}
        sides = {"aspect": aspect, "width": width, "height": height}
        return {name: side for name, side in sides.items() if side is not None}

    def checked(self) -> ImageRequest:
        """The request of one picture that these values make. Raises InvalidParameters: files can lie."""
        level = builder.Level(self.options(), place="the recipe")
        return builder.build([level], {}, draw_seed=lambda: 0).request

    def command(self, always: Collection[str] = ()) -> str:
        """Return the command line that makes the picture again, the same in sh, bash, zsh and fish.

        It says the seed, and whatever differs from the built-in defaults; ``always`` names options to be said
        all the same, because the config file has defaults of its own for them (``preset``: all of them).
        Raises InvalidParameters for a recipe that this model would not take.
        """
        request = self.checked()
        words = ["chroma", "generate"]
        for option, value in _said(request, always, with_seed="seed" in self.options()):
            words += _option(option, value)
        prompt = request.prompt
        if prompt == "-" or len(prompt.encode()) > _LONGEST_ARGUMENT:
            mark = "\ufeff" if prompt.startswith("\ufeff") else ""  # the reader takes one off
            return f"printf '%s\\n' {quoted(mark + prompt)} | {command_line(*words, '-')}"
        return command_line(*words, *(["--"] if prompt.startswith("-") else []), prompt)


def _said(request: ImageRequest, always: Collection[str], *, with_seed: bool) -> list[tuple[str, object]]:
    """The options of a command with their values, in the order of the table."""
    said: list[tuple[str, object]] = []

    def wanted(option: str) -> bool:
        return option in always or "preset" in always

    for parameter in schema.PARAMETERS:
        value = getattr(request, parameter.name)
        if parameter is schema.ASPECT_RATIO:
            custom = request.aspect_ratio == schema.CUSTOM
            if value != parameter.default or any(wanted(option) for option in _SHAPE_OPTIONS):
                said.append(("size", f"{request.width}x{request.height}") if custom else ("aspect", value))
        elif parameter in (*_SHAPE, schema.PROMPT, schema.SAMPLES):
            continue
        elif parameter is schema.SEED:
            said += [("seed", value)] if with_seed else []
        elif value != parameter.default or wanted(parameter.option):
            said.append((parameter.option, value))
    return said


def _option(option: str, value: object) -> list[str]:
    name = option.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    ratio = schema.ASPECT_BY_NAME.get(str(value)) if option == "aspect" else None
    text = ratio.ratio if ratio else str(value)
    return [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]


# --- into a file -------------------------------------------------------------------------------------------


def metadata(recipe: Recipe | None, level: Literal["full", "source-only"]) -> Metadata:
    """What to put into a picture that was made by ``recipe`` (None where it is not known), whose request has
    been checked.

    Every picture bears the same source type, those of the practice gateway too: they stand in for the
    model's. What tells them apart is the tool's name, the model's name and the recipe. Where only the picture
    itself tells that it comes from there, it gets the same.
    """
    if recipe is None or level == "source-only":
        return Metadata({xmp.SOURCE_TYPE: TRAINED_MODEL})
    tool = recipe.tool or TOOL
    properties = {xmp.SOURCE_TYPE: TRAINED_MODEL, xmp.CREATOR_TOOL: tool + " (sandbox)" * recipe.sandbox}
    if recipe.created is not None:
        properties[xmp.CREATE_DATE] = recipe.created
    properties[xmp.RECIPE] = _as_json(recipe)
    request = ImageRequest.from_payload(recipe.request)
    seed = recipe.seed if recipe.seed is not None else request.seed
    text = parameters.write(request, seed=seed, sandbox=recipe.sandbox)
    practised = None if recipe.sandbox else lambda: metadata(replace(recipe, sandbox=True), level)
    return Metadata(properties, text, practised)


def _as_json(recipe: Recipe) -> str:
    record = {
        "schema": _SCHEMA,
        "request": dict(recipe.request),
        "request_id": recipe.request_id,
        "seed": recipe.seed,
        "created_at": recipe.created,
        "tool": recipe.tool,
        "sandbox": recipe.sandbox,
    }
    if recipe.sample is not None:
        record["sample"] = recipe.sample
    text = json.dumps(record, ensure_ascii=False)
    return _NOT_FOR_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


# --- out of a file -----------------------------------------------------------------------------------------


def recipe_of(path: Path) -> Recipe | None:
    """The recipe in a picture, or None where it has none.

    Raises NotFound when there is no such file or it is no PNG, JPEG or WebP picture, and Damaged when it
    cannot be read or makes no sense. Costs bounded memory and time, however large or hostile the file.
    """
    found = look(path)
    try:
        return recipe_in(found)
    except Damaged as damage:
        raise Damaged(f"{path}: {damage.message}") from damage


def look(path: Path) -> Found:
    """All that a picture holds; raises and costs what :func:`recipe_of` does."""
    try:
        with _opened(path) as source:
            found = containers.read(source)
    except FileNotFoundError as error:
        raise NotFound(f"{path}: there is no such file.") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise NotFound(f"{path}: no file can have so long a name.") from error
        raise Damaged(f"{path} cannot be read: {error.strerror or error}.") from error
    except Damaged as damage:
        raise Damaged(f"{path}: {damage.message}") from damage
    if found is None:
        raise NotFound(f"{path} is no PNG, JPEG or WebP picture.")
    return found


def _opened(path: Path) -> BinaryIO:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would never open
            raise Damaged("This is not a file.")
        return path.open("rb")
    except ValueError as error:
        raise NotFound(f"{path}: that is no usable name.") from error


def recipe_in(found: Found) -> Recipe | None:
    """The recipe in what a picture holds: ours, else the text of another tool. Raises Damaged when what is
    there cannot be read and nothing else says it."""
    damage: Damaged | None = None
    try:
        recipe = _from_packets(found.xmp)
        if recipe is not None:
            return recipe
    except Damaged as error:
        damage = error
    for text in (found.texts.get("parameters"), found.user_comment):
        reading = parameters.read(text) if text else None
        if reading is not None:
            return Recipe(reading.request, "parameters", tool=None, left_out=reading.left_out)
    if damage is not None:
        raise damage
    return None


def _from_packets(packets: tuple[bytes, ...]) -> Recipe | None:
    values: dict[str, str] = {}
    for packet in packets:
        values.update(xmp.values(packet, _PROPERTIES))
    text = values.get(xmp.RECIPE)
    if text is None:
        return None
    record = _json_object(text)
    request = record.get("request")
    if not isinstance(request, dict):
        raise Damaged("The recipe in the file is damaged: there is no request in it.")
    seed, sample = record.get("seed"), record.get("sample")
    return Recipe(
        request,
        "chroma",
        request_id=_text(record.get("request_id")),
        created=_text(record.get("created_at")),
        tool=_text(record.get("tool")),
        sandbox=record.get("sandbox") is True,
        seed=seed if type(seed) is int else None,
        sample=sample if type(sample) is int and 0 < sample < _MOST_SAMPLES else None,
    )


def _json_object(text: str) -> dict[str, Any]:
    try:
        record = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Damaged("The recipe in the file is damaged: it is not valid JSON.") from error
    if not isinstance(record, dict):
        raise Damaged("The recipe in the file is damaged: it is no JSON object.")
    return record


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
