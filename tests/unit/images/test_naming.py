"""Slugs, templates, endings and numbers, for any text a prompt or an option can hold."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chroma_cli.errors import InvalidParameters, UsageError
from chroma_cli.images import naming
from chroma_cli.images.naming import Template


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a young knight in shining armor", "a-young-knight-in-shining-armor"),
        ("A Young KNIGHT, in armor!", "a-young-knight-in-armor"),
        ("the knight's café — déjà vu", "the-knights-cafe-deja-vu"),
        ("Straße nach Łódź, Ærøskøbing", "strasse-nach-lodz-aeroskobing"),
        ("рыцарь в доспехах", "image"),
        ("騎士 knight", "knight"),
        ("", "image"),
        ("   \n\t", "image"),
        ("con", "image-con"),
        ("LPT1", "image-lpt1"),
        ("console", "console"),
        ("../../etc/passwd", "etc-passwd"),
        ("x" * 100, "x" * 40),
        ("ﬁne ①②", "fine-12"),
        ("one two three four five six seven eight nine ten", "one-two-three-four-five-six-seven-eight"),
    ],
)
def test_slug(prompt: str, expected: str) -> None:
    assert naming.slug(prompt) == expected


@settings(max_examples=50)
@given(st.text())
def test_slug_is_always_a_plain_name(prompt: str) -> None:
    made = naming.slug(prompt)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", made)
    assert len(made) <= 46
    assert naming.slug(made) == made


@given(st.one_of(st.text(), st.text(alphabet=st.characters(exclude_categories=[]), max_size=300)))
def test_safe_values_stay_within_one_part_of_a_path(value: str) -> None:
    made = naming.safe_value(value)
    assert made
    assert not set(made) & set('/\\:*?"<>|\0')
    assert made[0] not in " .-" or not value
    assert made[-1] not in " ."
    assert len(made) <= 81
    assert len(made.encode()) <= 121
    assert not any(unicodedata.category(char).startswith("C") for char in made)
    assert made.split(".")[0].casefold() not in ("con", "nul", "com1")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, "7"),
        (7.0, "7"),
        (7.5, "7.5"),
        (True, "true"),
        (False, "false"),
        (None, "none"),
        ("", "none"),
        ("...", "none"),
        ("-rf", "rf"),
        ("16:9 landscape 1344x768", "16-9 landscape 1344x768"),
        ("a\tb\nc\u2028d", "a b c d"),
        ("../up", "up"),
        ("\u202eevil\x1b[31m", "evil[31m"),
        ("nul", "_nul"),
        ("con.txt", "_con.txt"),
        (2**63 - 1, str(2**63 - 1)),
    ],
)
def test_safe_value(value: object, expected: str) -> None:
    assert naming.safe_value(value) == expected


@pytest.mark.parametrize(
    ("name", "stem", "ending"),
    [
        ("knight.png", "knight", "png"),
        ("knight.JPEG", "knight", "JPEG"),
        ("knight", "knight", None),
        ("knight.", "knight", None),
        (".png", ".png", None),
        (".hidden.webp", ".hidden", "webp"),
        ("a.b.png", "a.b", "png"),
    ],
)
def test_split_ending(name: str, stem: str, ending: str | None) -> None:
    assert naming.split_ending(name) == (stem, ending)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("knight.png", "png"),
        ("dir.with.dots/knight.JPG", "jpeg"),
        ("knight.jpeg", "jpeg"),
        ("knight.WebP", "webp"),
        ("knight", None),
        ("out/{slug}.{ext}", None),
        ("{slug}-{cfg}", None),
        ("{slug}.{seed}", None),
        ("{slug}.{format}", None),
        ("{slug}.jpg", "jpeg"),
    ],
)
def test_the_ending_asks_for_a_format(output: str, expected: str | None) -> None:
    assert naming.format_for_ending(output) == expected


@pytest.mark.parametrize("output", ["knight.gif", "v1.5", "{slug}.bmp", "a.png.txt", "x.tar.gz"])
def test_other_endings_are_refused(output: str) -> None:
    with pytest.raises(UsageError, match=re.escape(output.rpartition(".")[2])) as caught:
        naming.format_for_ending(output)
    assert caught.value.exit_code == 2
    assert ".webp" in caught.value.message


@pytest.mark.parametrize(
    ("text", "field", "suggestion"),
    [
        ("{sed}.png", "{sed}", "{seed}"),
        ("{seed:04d}.png", "{seed:04d}", "{seed}"),
        ("{seed.real}.png", "{seed.real}", "{seed}"),
        ("{}.png", "{}", None),
        ("{ seed }.png", "{ seed }", "{seed}"),
        ("{sampler_nam}/x", "{sampler_nam}", "{sampler_name}"),
        ("{0}", "{0}", None),
        ("{slug}.{extension}", "{extension}", None),
    ],
)
def test_unknown_fields_are_named(text: str, field: str, suggestion: str | None) -> None:
    with pytest.raises(InvalidParameters) as caught:
        Template.parse(text)
    (problem,) = caught.value.problems
    assert field in problem.what
    if suggestion is not None:
        assert problem.suggestion == suggestion
    assert caught.value.hint is not None
    assert "{negative_prompt}" in caught.value.hint


def test_all_unknown_fields_are_reported_together() -> None:
    with pytest.raises(InvalidParameters) as caught:
        Template.parse("{foo}/{bar}-{foo}.png")
    assert [problem.what for problem in caught.value.problems] == [
        "unknown field {foo}.",
        "unknown field {bar}.",
    ]


def render(text: str, *, number: int = 0, image_format: str = "png", **values: str) -> str:
    return Template.parse(text).render(values, number=number, image_format=image_format)


@pytest.mark.parametrize(
    ("text", "number", "image_format", "expected"),
    [
        ("{slug}-{seed}.{ext}", 0, "jpeg", "knight-7.jpg"),
        ("{slug}-{seed}.{ext}", 2, "webp", "knight-7-2.webp"),
        ("{slug}_{index}.png", 3, "png", "knight_3.png"),
        ("{index}/{slug}.png", 3, "png", "3/knight.png"),
        ("{sampler}-{sampler_name}", 0, "png", "euler-euler.png"),
        ("{cfg}", 0, "png", "7.5.png"),
        ("{cfg}", 2, "png", "7.5-2.png"),
        ("{slug}.{seed}", 1, "png", "knight.7-1.png"),
        ("x.JPEG", 0, "jpeg", "x.JPEG"),
        ("x.JPEG", 0, "png", "x.png"),
        ("x.png", 0, "jpeg", "x.jpg"),
        ("x.{format}", 0, "jpeg", "x.jpeg"),
        ("x-{ext}", 1, "jpeg", "x-jpg-1.jpg"),
        ("a{b", 0, "png", "a{b.png"),
        ("a}b{", 0, "png", "a}b{.png"),
        ("{{seed}}.png", 0, "png", "{7}.png"),
        ("knight.", 0, "png", "knight.png"),
        ("{steps}", 0, "png", "unknown.png"),
    ],
)
def test_render(text: str, number: int, image_format: str, expected: str) -> None:
    values = {"slug": "knight", "seed": "7", "cfg": "7.5", "sampler_name": "euler"}
    assert render(text, number=number, image_format=image_format, **values) == expected


@given(st.text(), st.text(), st.integers(0, 99))
def test_values_never_leave_their_place(prompt: str, negative: str, number: int) -> None:
    values = {"prompt": naming.safe_value(prompt), "negative_prompt": naming.safe_value(negative)}
    made = render("pictures/{prompt}/{negative_prompt}.png", number=number, **values)
    parts = made.split("/")
    assert len(parts) == 3
    assert parts[0] == "pictures"
    assert not set(parts) & {"", ".", ".."}
    assert made.endswith(".png")


@given(st.text(alphabet="ab/{}. -", max_size=20), st.integers(0, 3))
def test_any_text_is_a_template_or_a_usage_error(text: str, number: int) -> None:
    try:
        made = render(text, number=number)
    except UsageError:
        return
    assert made.endswith(".png")
    assert made.count("/") == text.count("/")


def test_every_parameter_is_a_field() -> None:
    for name in (
        "prompt",
        "aspect",
        "aspect_ratio",
        "samples",
        "quality",
        "image_quality",
        "base64",
        "preset",
    ):
        assert name in naming.FIELDS
        Template.parse(f"{{{name}}}.png")


def test_numbers() -> None:
    assert naming.first_number(Template.parse("a.png"), 1) == 0
    assert naming.first_number(Template.parse("a.png"), 2) == 1
    assert naming.first_number(Template.parse("{index}.png"), 1) == 1
    assert naming.free_numbers(3, 1, {2, 4}.__contains__) == (1, 3, 5)
    assert naming.free_numbers(0, 1, {2, 4}.__contains__) == ()
    with pytest.raises(UsageError, match="million"):
        naming.free_numbers(1, naming.NUMBER_MAX, lambda number: True)


def test_the_date_is_the_local_day() -> None:
    assert re.fullmatch(r"2023-11-1[45]", naming.date_text(1_700_000_000.0))
