"""Reading manifests: three formats, one meaning; every problem at once; nothing outside of the folder."""

from __future__ import annotations

import csv
import io
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chroma_cli.errors import ChromaError, InvalidParameters, UsageError
from chroma_cli.jobs.manifest import Manifest, load, shard
from chroma_cli.request.presets import collect

NOW = 1_700_000_000.0
FORMATS = ("toml", "jsonl", "csv")
KEYS = (
    "prompt",
    "output",
    "preset",
    "vars",
    "sweep",
    "seed",
    "cfg",
    "samples",
    "format",
    "size",
    "aspect",
    "width",
)
PRESETS = collect({"house": {"cfg": 4, "steps": 30}}, "/etc/chroma.toml")

Reader = Callable[..., Manifest]


def read_text(
    text: str | bytes, folder: Path, form: str | None = None, *, allow_outside: bool = False
) -> Manifest:
    """A manifest as it comes through stdin."""
    data = text if isinstance(text, bytes) else text.encode()
    return load(
        None,
        io.BytesIO(data),
        format=form,
        presets=PRESETS,
        allow_outside=allow_outside,
        cwd=folder,
        now=NOW,
    )


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    """Write a manifest into a folder of its own and load it."""
    folder = tmp_path / "assets"
    folder.mkdir()

    def make(text: str | bytes, name: str = "art.toml", **more: Any) -> Manifest:
        path = folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        settings: dict[str, Any] = {
            "format": None,
            "presets": PRESETS,
            "allow_outside": False,
            "cwd": tmp_path,
            "now": NOW,
        }
        return load(path, None, **{**settings, **more})

    return make


@pytest.fixture
def problems(read: Reader) -> Callable[..., list[str]]:
    """What is wrong with a manifest, problem by problem."""

    def find(text: str | bytes, name: str = "art.toml", **more: Any) -> list[str]:
        with pytest.raises(InvalidParameters) as caught:
            read(text, name, **more)
        return [str(problem) for problem in caught.value.problems]

    return find


def image(output: str, prompt: str = "a knight", more: str = "") -> str:
    return f'[[image]]\noutput = "{output}"\nprompt = "{prompt}"\n{more}\n'


# --- what is read ------------------------------------------------------------------------------------------


def test_toml_with_defaults_preset_and_sweep(read: Reader) -> None:
    found = read(
        """
        [defaults]
        steps = 20
        preset = "house"

        [[image]]
        output = "knight.png"
        prompt = "a knight"

        [[image]]
        output = "sea/{cfg}-{seed}.webp"
        prompt = "the sea"
        sweep = {cfg = [5, 7.5], seed = "1..2"}
        """
    )
    assert [one.key for one in found.images] == [
        "knight.png",
        "sea/5-1.webp",
        "sea/5-2.webp",
        "sea/7.5-1.webp",
        "sea/7.5-2.webp",
    ]
    first, second = found.images[:2]
    assert (first.request.cfg, first.request.steps, first.request.image_format) == (4, 20, "png")
    assert (second.request.cfg, second.request.seed, second.request.image_format) == (5, 1, "webp")
    assert first.where == "art.toml: [[image]] 1 (line 6)"
    assert second.where == "art.toml: [[image]] 2 (line 10), sweep cfg=5, seed=1"
    assert second.paths == (found.folder / "sea" / "5-1.webp",)
    assert found.path == found.folder / "art.toml"
    assert found.warnings == ()


def test_the_three_formats_say_the_same(read: Reader) -> None:
    toml = read(image("a.png", more="cfg = 5\nsize = '768x800'\nbase64 = true"))
    jsonl = read(
        '{"output": "a.png", "prompt": "a knight", "cfg": 5.0, "size": "768x800", "base64": true}\n',
        "art.jsonl",
    )
    table = read("prompt,output,cfg,size,base64,steps\na knight,a.png,5,768x800,yes,\n", "art.csv")
    requests = {one.images[0].request for one in (toml, jsonl, table)}
    assert len(requests) == 1
    assert [one.images[0].where for one in (jsonl, table)] == ["art.jsonl: line 1", "art.csv: line 2"]


def test_json_lines_take_nested_sweeps_null_and_blank_lines(read: Reader) -> None:
    found = read(
        '\n{"output": "{seed}.png", "prompt": "x", "cfg": null, "sweep": {"seed": [1, 2]}}\r\n\r\n', "a.jsonl"
    )
    assert [(one.key, one.request.cfg) for one in found.images] == [("1.png", 7), ("2.png", 7)]
    assert found.images[1].where == "a.jsonl: line 2, sweep seed=2"


def test_csv_takes_quotes_newlines_other_delimiters_and_trailing_commas(read: Reader) -> None:
    text = 'prompt,output,,\r\n"a ""red"" knight,\r\nriding", a.png ,,\r\n\r\n,,,\r\nthe sea,b.png\r\n'
    found = read(text, "art.csv")
    assert [(one.key, one.request.prompt) for one in found.images] == [
        ("a.png", 'a "red" knight,\nriding'),
        ("b.png", "the sea"),
    ]
    assert found.images[1].where == "art.csv: line 6"
    assert read("prompt;output\nred, blue;a.png\n", "b.csv").images[0].request.prompt == "red, blue"
    assert read("prompt\toutput\nred\ta.png\n", "c.tsv").images[0].key == "a.png"


def test_a_very_long_prompt_in_csv(read: Reader) -> None:
    assert (
        len(read(f"output,prompt\na.png,{'word ' * 60_000}\n", "art.csv").images[0].request.prompt) > 250_000
    )


@pytest.mark.parametrize("name", ["art.toml", "art.jsonl", "art.csv"])
def test_a_byte_order_mark_is_no_part_of_the_text(read: Reader, name: str) -> None:
    texts = {
        "art.toml": image("a.png"),
        "art.jsonl": '{"output": "a.png", "prompt": "a knight"}',
        "art.csv": "output,prompt\na.png,a knight\n",
    }
    assert read(b"\xef\xbb\xbf" + texts[name].encode(), name).images[0].key == "a.png"


def test_line_ends_of_windows_make_the_same_request(read: Reader) -> None:
    text = '[[image]]\noutput = "a.png"\nprompt = """one\ntwo"""\n'
    plain, windows = read(text), read(text.replace("\n", "\r\n"))
    assert plain.images[0].request == windows.images[0].request
    escaped = read('{"output": "a.png", "prompt": "one\\r\\ntwo"}', "a.jsonl")
    assert escaped.images[0].request.prompt == "one\ntwo"


@pytest.mark.parametrize(
    "text",
    [
        '{"prompt": "x"}\n',
        '  \n {"prompt": "x"}',
        '[[image]]\nprompt = "x"',
        '# art\n[[image]]\nprompt = "x"',
        '[defaults]\nsteps = 20\n[[image]]\nprompt = "x"',
        'image = [{prompt = "x"}]',
        "prompt\nx\n",
        "cfg;prompt\n5;x\n",
        '"prompt"\n"x"\n',
    ],
)
def test_what_comes_through_stdin_is_recognised(tmp_path: Path, text: str) -> None:
    found = read_text(text, tmp_path)
    assert found.path is None
    assert found.folder == tmp_path.resolve()
    assert found.images[0].request.prompt == "x"
    assert found.images[0].where.startswith("stdin: ")


def test_what_is_not_recognised_asks_for_the_format(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_text("what is this\n", tmp_path)
    assert "--manifest-format" in str(caught.value.hint)
    with pytest.raises(InvalidParameters, match="Did you mean 'toml'"):
        read_text("", tmp_path, "tmol")


def test_the_given_format_wins_over_the_ending(read: Reader) -> None:
    assert read('{"prompt": "x", "output": "a.png"}', "art.csv", format="jsonl").images[0].key == "a.png"


def test_a_pipe_counts_as_stdin(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=('{"prompt": "x", "output": "a.png"}\n',))
    writer.start()
    work = tmp_path / "work"
    work.mkdir()
    found = load(pipe, None, format=None, presets={}, allow_outside=False, cwd=work, now=NOW)
    writer.join()
    assert found.path is None
    assert found.images[0].paths == (work.resolve() / "a.png",)


def test_a_relative_path_starts_at_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "art.toml").write_text(image("a.png"))
    found = load(
        Path("sub/art.toml"), None, format=None, presets={}, allow_outside=False, cwd=tmp_path, now=NOW
    )
    assert found.images[0].paths == (tmp_path.resolve() / "sub" / "a.png",)


# --- seeds -------------------------------------------------------------------------------------------------


def test_a_missing_seed_comes_from_the_row_alone(read: Reader) -> None:
    one, two = image("a.png"), image("b.png")
    forward = {image.key: image.request.seed for image in read(one + two).images}
    backward = {image.key: image.request.seed for image in read(two + one, "other.toml").images}
    assert forward == backward
    assert forward["a.png"] != forward["b.png"]
    assert all(0 <= seed < 2**32 for seed in forward.values())


def test_the_derived_seed_never_changes_between_versions(read: Reader) -> None:
    """Pinned: another number here would make everybody's images anew."""
    assert read(image("icons/a.png")).images[0].request.seed == PINNED_SEED


PINNED_SEED = 362544408


@pytest.mark.parametrize("spelling", ["./a.png", ".//a.png", "x/../a.png"])
def test_the_spelling_of_the_output_does_not_matter(read: Reader, spelling: str) -> None:
    assert read(image(spelling)).images[0].request == read(image("a.png")).images[0].request


def test_random_in_a_row_undoes_a_pin_and_is_derived(read: Reader) -> None:
    text = "[defaults]\nseed = 5\n" + image("a.png") + image("b.png", more='seed = "random"')
    pinned, derived = read(text).images
    assert pinned.request.seed == 5
    assert derived.request.seed == read(image("b.png")).images[0].request.seed


def test_names_with_the_seed_get_the_derived_one(read: Reader) -> None:
    found = read('[[image]]\nprompt = "a red knight"').images[0]
    assert found.key == f"a-red-knight-{found.request.seed}.png"


SEEDS = [0, 7, -1, 7.0, "7", None, "random", 2**32 - 1, 7.5, True, 2**32, [7]]
ROWS = st.builds(
    lambda **given: {key: value for key, value in given.items() if value != "absent"},
    prompt=st.sampled_from(["an owl", "a fox", " "]),
    seed=st.just("absent") | st.sampled_from(SEEDS[:4]) | st.sampled_from(SEEDS),
    cfg=st.sampled_from(["absent", 5, 5.0, 99]),
    preset=st.sampled_from(["absent", "house"]),
)


@settings(max_examples=40)
@given(given_rows=st.lists(ROWS, min_size=2, max_size=12))
@example(given_rows=[{"prompt": "an owl", "seed": 7}, {"prompt": "a fox"}])
@example(given_rows=[{"prompt": "an owl"}, {"prompt": "a fox", "seed": 7}, {"prompt": "a fox", "seed": 8}])
@example(given_rows=[{"prompt": "an owl", "cfg": 1}, {"prompt": "a fox", "cfg": True}])
@example(given_rows=[{"prompt": "an owl"}, {"prompt": "a fox", "seed": 7.5}])
def test_every_row_is_what_it_would_be_alone(
    given_rows: list[dict[str, object]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What rows have in common is worked out once; that must never show."""
    folder = _EMPTY[0] if _EMPTY else tmp_path_factory.mktemp("alone")
    _EMPTY[:] = [folder]
    lines = [json.dumps({"output": f"{at}.png", **row}) for at, row in enumerate(given_rows)]

    def outcome(text: str) -> tuple[list[object], list[str]]:
        try:
            return [
                (one.key, one.where, repr(one.request)) for one in read_text(text, folder, "jsonl").images
            ], []
        except InvalidParameters as error:
            return [], [str(problem) for problem in error.problems]

    alone = [outcome("\n" * at + line) for at, line in enumerate(lines)]
    assert outcome("\n".join(lines))[1] == [problem for _, problems in alone for problem in problems]
    good = [line if made else "" for line, (made, _) in zip(lines, alone, strict=True)]
    assert outcome("\n".join([*good, LAST]))[0][:-1] == [image for made, _ in alone for image in made]


LAST = '{"output": "last.png", "prompt": "x"}'
_EMPTY: list[Path] = []


# --- outputs -----------------------------------------------------------------------------------------------


def test_several_samples_get_numbers(read: Reader) -> None:
    found = read(image("sub/a.png", more="samples = 3")).images[0]
    assert found.key == "sub/a.png"
    assert [path.name for path in found.paths] == ["a-1.png", "a-2.png", "a-3.png"]
    numbered = read(image("{index}/a.png", more="samples = 2")).images[0]
    assert [path.parent.name for path in numbered.paths] == ["1", "2"]


def test_fields_are_filled_in(read: Reader) -> None:
    text = image(
        "{aspect}/{width}x{height}-{slug}-{preset}.{ext}", "a {seed} b", 'samples = 2\nformat = "jpeg"'
    )
    found = read(text).images[0]
    folder = "1-1 square 1024x1024"
    assert found.key == f"{folder}/1024x1024-a-seed-b-none.jpg"
    assert [path.name for path in found.paths] == [
        "1024x1024-a-seed-b-none-1.jpg",
        "1024x1024-a-seed-b-none-2.jpg",
    ]


def test_a_value_with_braces_is_not_filled_in_again(read: Reader) -> None:
    found = read(image("{negative_prompt}.png", more='negative_prompt = "{seed}"')).images[0]
    assert found.key == "{seed}.png"
    assert found.paths[0].name == "{seed}.png"


def test_a_folder_gets_default_names(read: Reader) -> None:
    found = read(image("icons/", more="seed = 4")).images[0]
    assert found.key == "icons/a-knight-4.png"


def test_an_existing_folder_has_to_be_written_as_one(
    read: Reader, problems: Callable[..., list[str]], tmp_path: Path
) -> None:
    (tmp_path / "assets" / "icons").mkdir()
    assert "'icons' is a folder" in problems(image("icons"))[0]
    assert read(image("icons/")).images


def test_an_output_without_ending_gets_the_one_of_its_format(read: Reader) -> None:
    assert read(image("a", more='format = "jpeg"')).images[0].key == "a.jpg"


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("../a.png", "outside"),
        ("x/../../a.png", "outside"),
        ("/tmp/elsewhere/a.png", "outside"),
        ("-", "stdout"),
        ("", "empty"),
        ("  ", "empty"),
        ("a.gif", "ends in .gif"),
        ("{sed}.png", "unknown field {sed}. Did you mean '{seed}'?"),
        ("{id}.png", "not known before"),
        ("{slug}/../a.png", "'..' cannot stand there"),
        ("x/..", "'..' cannot stand there"),
        ("a\\u0000.png", "characters"),
        ("a\\nb.png", "characters"),
        ("a\\u2028b.png", "characters"),
        ("x" * 252 + ".png", "longer than 255 bytes"),
        ("é" * 126 + ".png", "longer than 255 bytes"),
        ("/".join(["x" * 200] * 21) + ".png", "longer than 4000 bytes"),
    ],
)
def test_an_output_that_cannot_be(problems: Callable[..., list[str]], output: str, words: str) -> None:
    (said,) = problems(image(output))
    assert words in said
    assert said.startswith("art.toml: [[image]] 1 (line 1): output: ")


def test_half_a_character_in_an_output(problems: Callable[..., list[str]]) -> None:
    assert "characters" in problems('{"prompt": "x", "output": "a\\ud800.png"}', "a.jsonl")[0]


def test_an_output_that_is_no_text(problems: Callable[..., list[str]]) -> None:
    assert "5 is not text" in problems('{"prompt": "x", "output": 5}', "a.jsonl")[0]


def test_a_name_with_a_seed_that_only_the_server_knows(
    read: Reader, problems: Callable[..., list[str]]
) -> None:
    assert "leaves that to the server" in problems(image("{seed}.png", more="seed = -1"))[0]
    assert read(image("a.png", more="seed = -1")).images[0].request.seed == -1


def test_a_side_that_comes_from_below_is_told_by_the_row(problems: Callable[..., list[str]]) -> None:
    (said,) = problems('[defaults]\naspect = "9:21"\n' + image("a.png", more="height = 800"))
    assert said.startswith("art.toml: [[image]] 1 (line 3): width: not given")


def test_an_ending_against_the_format(problems: Callable[..., list[str]]) -> None:
    assert "contradicts the output's ending" in problems(image("a.png", more='format = "webp"'))[0]


def test_outside_when_it_is_allowed(read: Reader, tmp_path: Path) -> None:
    up, absolute = read(image("../a.png") + image(f"{tmp_path}/sub/b.png"), allow_outside=True).images
    assert (up.key, up.paths) == ("../a.png", (tmp_path.resolve() / "a.png",))
    assert (absolute.key, absolute.paths) == ("../sub/b.png", (tmp_path.resolve() / "sub" / "b.png",))


def test_an_absolute_output_inside_is_inside(read: Reader, tmp_path: Path) -> None:
    assert read(image(f"{tmp_path}/assets/a.png")).images[0].key == "a.png"


def test_links_decide_what_is_outside(
    read: Reader, problems: Callable[..., list[str]], tmp_path: Path
) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    assets = tmp_path / "assets"
    (assets / "out").symlink_to(outside)
    (assets / "real").mkdir()
    (assets / "alias").symlink_to("real")
    (assets / "last.png").symlink_to(outside / "last.png")
    (assets / "loop").symlink_to("loop")
    assert "outside" in problems(image("out/a.png"))[0]
    assert "outside" in problems(image("last.png"))[0]
    assert "outside" in problems(image("out/../assets2/a.png"))[0]
    assert read(image("alias/a.png")).images[0].key == "alias/a.png"
    assert read(image("loop/a.png")).images
    assert read(image("out/a.png"), allow_outside=True).images[0].key == "out/a.png"


def test_the_folder_may_be_reached_through_a_link(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (real / "art.toml").write_text(image("sub/a.png"))
    (tmp_path / "alias").symlink_to(real)
    found = load(
        tmp_path / "alias" / "art.toml",
        None,
        format=None,
        presets={},
        allow_outside=False,
        cwd=tmp_path,
        now=NOW,
    )
    assert found.images[0].paths == (real.resolve() / "sub" / "a.png",)


# --- one output, one image ---------------------------------------------------------------------------------


@pytest.mark.parametrize("second", ["a.png", "./a.png", "x//../a.png", "{slug}.png"])
def test_two_rows_for_one_output_are_named_both(problems: Callable[..., list[str]], second: str) -> None:
    (said,) = problems(image("a.png") + image(second, "a"))
    assert "[[image]] 1" in said
    assert "[[image]] 2" in said
    assert "'a.png'" in said


def test_two_rows_for_one_output_through_a_link(problems: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "assets" / "real").mkdir()
    (tmp_path / "assets" / "alias").symlink_to("real")
    assert len(problems(image("real/a.png") + image("alias/a.png"))) == 1


def test_a_sample_may_not_take_the_name_of_another_image(problems: Callable[..., list[str]]) -> None:
    assert len(problems(image("a-2.png") + image("a.png", more="samples = 2"))) == 1
    assert len(problems(image("a.png") + image("a.png", more="samples = 2"))) == 1


def test_many_rivals_are_one_problem(problems: Callable[..., list[str]]) -> None:
    (said,) = problems(image("a.png", more='sweep = {seed = "1..50"}'))
    assert "and 48 more" in said


def test_an_output_that_another_wants_as_a_folder(problems: Callable[..., list[str]]) -> None:
    (said,) = problems(image("a.png") + image("a.png/sub/b.png"))
    assert "a folder for another output" in said


def test_an_output_is_judged_even_when_its_row_is_wrong(problems: Callable[..., list[str]]) -> None:
    said = problems(image("../a.png", more="cfg = 99") + image("b.png", more="steps = 1") + image("b.png"))
    assert len(said) == 4


# --- everything that is wrong ------------------------------------------------------------------------------


def test_all_problems_at_once_with_table_and_key(problems: Callable[..., list[str]]) -> None:
    said = problems(
        """
        [defaults]
        stps = 20
        cfg = 99

        [[image]]
        output = "a.png"
        promt = "x"

        [[image]]
        output = "b.png"
        prompt = ""
        preset = "hous"
        aspect = "16:9"
        size = "768x768"
        """
    )
    assert said == [
        "art.toml: [defaults]: stps: there is no such key. Did you mean 'steps'?",
        "art.toml: [[image]] 1 (line 6): promt: there is no such key. Did you mean 'prompt'?",
        "art.toml: [defaults]: cfg: 99 is not a number from 1 to 20",
        "art.toml: [[image]] 1 (line 6): prompt: missing; say what the picture shows",
        "art.toml: [[image]] 2 (line 10): preset: 'hous' is not a preset; there are fine-art, house,"
        " illustration, photorealism, prototype. Did you mean 'house'?",
        "art.toml: [[image]] 2 (line 10): prompt: it is empty; say what the picture shows",
        "art.toml: [[image]] 2 (line 10): aspect: cannot stand beside art.toml: [[image]] 2 (line 10): size;"
        " give one or the other",
    ]


def test_a_wrong_value_in_a_sweep_is_told_once(problems: Callable[..., list[str]]) -> None:
    (said,) = problems(image("{cfg}-{seed}.png", more='sweep = {cfg = [5, 99], seed = "1..30"}'))
    assert said == "art.toml: [[image]] 1 (line 1): sweep.cfg: 99 is not a number from 1 to 20"


def test_a_key_beside_the_sweep_over_it(problems: Callable[..., list[str]]) -> None:
    (said,) = problems(image("{cfg}.png", more="cfg = 5\nsweep = {cfg = [5, 6]}"))
    assert "[[image]] 1 (line 1): cfg: it is given beside the sweep" in said


def test_a_wrong_preset_of_the_config_names_it(read: Reader) -> None:
    presets = collect({"house": {"cfg": 99}}, "config.toml")
    with pytest.raises(InvalidParameters, match=r"cfg in \[presets.house\] of config.toml"):
        read(image("a.png", more='preset = "house"'), presets=presets)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[image]\nprompt = "x"', "in two brackets"),
        ("image = [1]", "1 is not a table"),
        ("defaults = 1", "write [defaults]"),
        ("[imagee]\nx = 1", "Did you mean 'image'?"),
        ('"a\\u001b[31m" = 1', "there is no such key at the top level"),
        ("[defaults]\nsweep = {cfg = [1]}", "belongs to one [[image]]"),
        ("[[image]\n", "art.toml: line 1: it is not valid TOML"),
        ('a = 1\nb = "x', "art.toml: line 2: it is not valid TOML"),
        ("[[image]]\nprompt = 'a'\nprompt = 'b'", "line 3"),
        (f"x = {'9' * 5000}", "not valid TOML"),
        ("x = " + "[" * 5000, "nested too deeply"),
        (b"[[image]]\nprompt = 'caf\xe9'", "art.toml: line 2: it is not UTF-8 (byte 24 of the file)"),
        ("[[image]]\noutput = 'a.png'\nprompt = 1979-05-27", "1979-05-27 is not text"),
        ("[[image]]\noutput = 'a.png'\nprompt = 'x'\ncfg = nan", "nan is not a number"),
        ("[[image]]\noutput = 'a.png'\nprompt = 'x'\nsamples = 100000000000", "more than 1000"),
        ("[[image]]\noutput = 'a.png'\nprompt = 'x'\nseed = 1e999", "inf is not a seed"),
    ],
)
def test_toml_that_cannot_be(problems: Callable[..., list[str]], text: str | bytes, words: str) -> None:
    said = problems(text)
    assert any(words in one for one in said), said
    assert all(one.startswith("art.toml: ") and one.isprintable() for one in said)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "not a table"),
        ('{"prompt": "x",}', "not one whole JSON object"),
        ('{"prompt": "x"} {}', "Extra data (column 17)"),
        ('{"prompt": "x", "prompt": "y"}', "line 2: prompt: the key stands there twice"),
        ('{"prompt": "x", "cfg": NaN}', "NaN is no number"),
        ('{"prompt": "x", "cfg": 1e999}', "inf is not a number"),
        ('{"prompt": "x", "cfg": true}', "True is not a number"),
        ('{"prompt": "x", "cfg": "5"', "not one whole"),
        ('{"prompt": "x", "seed": ' + "9" * 5000 + "}", "not JSON"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"prompt": "a\\u0000"}', "U+0000"),
        ('{"prompt": "a\\ud800"}', "UTF-8"),
        ('{"prompt": {"a": 1}}', "is not text"),
        ('{"prompt": "x", "sweep": [1]}', "not a table"),
        ('{"prompt": "x", "--cfg": 1}', "Did you mean 'cfg'?"),
    ],
)
def test_json_lines_that_cannot_be(problems: Callable[..., list[str]], text: str, words: str) -> None:
    good = '{"prompt": "fine", "output": "fine.png"}\n'
    said = problems(good + text, "art.jsonl")
    assert any(words in one for one in said), said
    assert all(one.startswith("art.jsonl: line 2") and one.isprintable() for one in said)


def test_every_bad_line_is_told(problems: Callable[..., list[str]]) -> None:
    said = problems('{\n{"prompt": 5}\n[]\n{"promt": "x"}\n', "a.jsonl")
    assert {one.split(":")[1] for one in said} == {" line 1", " line 2", " line 3", " line 4"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prompt,prompt\nx,y\n", "art.csv: line 1: prompt: there are two columns"),
        ("prompt,ctg\nx,5\n", "art.csv: line 1: ctg: there is no such column. Did you mean 'cfg'?"),
        ("prompt,sweep\nx,5\n", "one row for each"),
        ("knight,a.png\nsea,b.png\n", "must name the columns"),
        ("prompt,cfg\nx,5,6\n", "art.csv: line 2: the row has 3 cells, and there are 2 columns"),
        ("prompt,,cfg\nx,9,6\n", "art.csv: line 2: cell 2 ('9') has no column name"),
        ('prompt,cfg\n"x\ny",5\nz,99\n', "art.csv: line 4: cfg: "),
        ('prompt\n"x\n', "art.csv: line 2: it is not CSV"),
        ('prompt\n"x"y\n', "it is not CSV"),
        ("output\na.png\n", "art.csv: line 2: prompt: missing"),
        ("prompt,output\nx\x00y,a.png\n", "U+0000"),
        ("prompt,cfg\nx,five\n", "'five' is not a number"),
        ("prompt,seed\nx,1e3\n", "not a seed"),
    ],
)
def test_csv_that_cannot_be(problems: Callable[..., list[str]], text: str, words: str) -> None:
    said = problems(text, "art.csv")
    assert any(words in one for one in said), said
    assert all(one.startswith("art.csv: line ") and one.isprintable() for one in said)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", ""),
        ("a.toml", "[defaults]\nsteps = 20\n"),
        ("a.toml", "image = []"),
        ("a.jsonl", "\n\n"),
        ("a.csv", ""),
        ("a.csv", "prompt,output\n"),
        ("a", ""),
        ("a", "\ufeff \n"),
    ],
)
def test_no_image_is_an_error(read: Reader, name: str, text: str) -> None:
    with pytest.raises(UsageError, match="lists no image"):
        read(text, name)


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "format": None,
        "presets": {},
        "allow_outside": False,
        "cwd": tmp_path,
        "now": 0,
    }
    with pytest.raises(UsageError, match="no such file"):
        load(tmp_path / "none.toml", None, **settings)
    with pytest.raises(UsageError, match="folder"):
        load(tmp_path, None, **settings)
    with pytest.raises(UsageError, match="no usable file name"):
        load(Path("a\0b"), None, **settings)


def test_limits_on_size_and_number(read: Reader, problems: Callable[..., list[str]], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="more than 100000 images"):
        read("prompt\n" + "x\n" * 100_001, "a.csv")
    sweep = 'sweep = {seed = "1..10000", cfg = [1, 2]}'
    assert "10000" in problems(image("{seed}-{cfg}.png", more=sweep))[0]
    assert len(problems("[]\n" * 1500, "a.jsonl")) == 1000
    large = tmp_path / "large.jsonl"
    with large.open("w") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    with pytest.raises(UsageError, match="larger than"):
        load(large, None, format=None, presets={}, allow_outside=False, cwd=tmp_path, now=NOW)


# --- warnings ----------------------------------------------------------------------------------------------


def test_warnings_come_once(read: Reader) -> None:
    rows_of_three = "".join(image(f"{n}.png", more='sampler = "unipc"') for n in range(3))
    (said,) = read(rows_of_three).warnings
    assert said.startswith("art.toml: [[image]] 1 (line 1): sampler: 'unipc'")
    assert said.endswith("(2 more like this.)")
    (said,) = read('[defaults]\nsampler = "unipc"\n' + image("a.png") + image("b.png")).warnings
    assert "[defaults]" in said
    assert "more like" not in said


def test_a_date_in_a_name_is_worth_a_warning(read: Reader) -> None:
    found = read(image("{date}.png"))
    assert "{date}" in found.warnings[0]
    assert found.images[0].key in ("2023-11-14.png", "2023-11-15.png")
    next_year = read(image("{date}.png"), now=NOW + 366 * 86400)
    assert next_year.images[0].request == found.images[0].request


# --- shards ------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(count=st.integers(0, 60), n=st.integers(1, 12), seed=st.randoms(use_true_random=False))
def test_shards_are_balanced_complete_and_blind_to_order(
    count: int, n: int, seed: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    images = _images(count, tmp_path_factory)
    shares = [shard(images, k, n) for k in range(1, n + 1)]
    assert sorted(one.key for share in shares for one in share) == sorted(one.key for one in images)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    shuffled = list(images)
    seed.shuffle(shuffled)
    for k, share in enumerate(shares, start=1):
        assert {one.key for one in shard(shuffled, k, n)} == {one.key for one in share}


_MADE: dict[int, Any] = {}


def _images(count: int, factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    if not _MADE:
        text = "".join(f'{{"prompt": "x", "output": "{n}.png"}}\n' for n in range(60))
        _MADE[0] = read_text(text, factory.mktemp("shards")).images
    return tuple(_MADE[0][:count])


@pytest.mark.parametrize(("k", "n"), [(0, 2), (3, 2), (1, 0), (-1, 2)])
def test_a_share_that_does_not_exist(k: int, n: int) -> None:
    with pytest.raises(UsageError, match="--shard"):
        shard((), k, n)


# --- anything at all ---------------------------------------------------------------------------------------

ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda more: st.lists(more, max_size=3) | st.dictionaries(st.text(max_size=5), more, max_size=3),
    max_leaves=6,
)
ANY_KEY = st.sampled_from(KEYS) | st.text(max_size=8)


def survives(text: str | bytes, folder: Path, form: str | None) -> Manifest | None:
    """Whatever is read is a manifest or a ChromaError, and what is read stays in the folder."""
    try:
        found = read_text(text, folder, form)
    except ChromaError as error:
        assert error.exit_code == 2
        return None
    for one in found.images:
        assert all(path.resolve().is_relative_to(found.folder) for path in one.paths)
    assert len({one.key for one in found.images}) == len(found.images)
    return found


@given(text=st.binary(max_size=200), form=st.sampled_from([None, *FORMATS]))
@example(text=b"\xff\xfep\x00r\x00", form=None)
@example(text=b'"' * 100, form="csv")
def test_any_bytes_are_read_or_refused(
    text: bytes, form: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    survives(text, tmp_path_factory.getbasetemp(), form)


@settings(max_examples=40)
@given(entries=st.lists(st.dictionaries(ANY_KEY, ANY_VALUE, max_size=4), max_size=4))
def test_any_json_lines_are_read_or_refused(
    entries: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = "\n".join(json.dumps(entry) for entry in entries)
    survives(text, tmp_path_factory.getbasetemp(), "jsonl")


@settings(max_examples=40)
@given(
    output=st.text(max_size=30) | st.from_regex(r"(\.\.?/|/|\{slug\}|[a-c]|//){0,6}(\.png)?", fullmatch=True)
)
@example(output=".")
def test_any_output_stays_inside(output: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    text = json.dumps({"prompt": "x", "output": output})
    survives(text, tmp_path_factory.getbasetemp(), "jsonl")


@settings(max_examples=40)
@given(
    table=st.lists(
        st.tuples(st.text(max_size=12), st.sampled_from(["", "5", "7.5", "x"]), st.text(max_size=3)),
        min_size=1,
        max_size=5,
    )
)
def test_any_table_is_read_or_refused(
    table: list[tuple[str, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([("prompt", "cfg", "seed"), *table])
    survives(buffer.getvalue().encode(errors="surrogatepass"), tmp_path_factory.getbasetemp(), "csv")


@settings(max_examples=40)
@given(
    prompts=st.lists(
        st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1).filter(lambda one: one.strip()),
        min_size=1,
        max_size=5,
    )
)
def test_prompts_come_through_every_format_as_they_are(
    prompts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    jsonl = "".join(json.dumps({"prompt": one, "output": f"{n}.png"}) + "\n" for n, one in enumerate(prompts))
    toml = "".join(
        f'[[image]]\noutput = "{n}.png"\nprompt = {json.dumps(one, ensure_ascii=False)}\n'
        for n, one in enumerate(prompts)
    )
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows(
        [("prompt", "output"), *((one, f"{n}.png") for n, one in enumerate(prompts))]
    )
    texts = {"jsonl": jsonl, "toml": toml, "csv": buffer.getvalue()}
    found = {form: survives(text, folder, form) for form, text in texts.items()}
    requests = [[one.request for one in each.images] for each in found.values() if each is not None]
    assert [[one.prompt for one in each] for each in requests] == [prompts] * 3
    assert requests[0] == requests[1] == requests[2]
