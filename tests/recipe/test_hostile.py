"""Files that want to hurt the reader: cut, looping, swollen, nested; a clear error, little memory, an end."""

from __future__ import annotations

import io
import os
import random
import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recipe_kit import FORMATS, embedded, picture, recipe_with

from chroma_cli.errors import ChromaError
from chroma_cli.images import containers, parts, recipe, xmp
from chroma_cli.images.parts import CannotExtend, Damaged

WHOLE = {one: embedded(picture(one, 24, 16), one, recipe_with()) for one in FORMATS}
PNG_HEAD = picture("png")[:33]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def read(data: bytes) -> object:
    seen = containers.read(io.BytesIO(data))
    return recipe.recipe_in(seen) if seen is not None else None


@pytest.mark.parametrize("image_format", FORMATS)
def test_every_cut_is_noticed(image_format: str) -> None:
    whole = WHOLE[image_format]
    for end in range(12, len(whole), 7):
        with pytest.raises(Damaged):
            read(whole[:end])


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(FORMATS), st.integers(0, 2**32), st.integers(1, 12))
def test_damage_never_ends_in_another_error(image_format: str, seed: int, count: int) -> None:
    luck = random.Random(seed)
    data = bytearray(WHOLE[image_format])
    for _ in range(count):
        data[luck.randrange(len(data))] = luck.choice((0, 1, 0x7F, 0xFF, luck.randrange(256)))
    try:
        read(bytes(data))
    except ChromaError as error:
        assert error.message
    try:
        containers.embed(
            io.BytesIO(data), image_format, recipe.metadata(recipe_with(), "full"), lambda _: None
        )
    except CannotExtend as error:
        assert str(error)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([PNG_HEAD, b"\xff\xd8\xff", b"RIFF\xff\0\0\0WEBP"]), st.binary(max_size=400))
def test_junk_behind_a_head_never_ends_in_another_error(head: bytes, junk: bytes) -> None:
    try:
        read(head + junk)
    except ChromaError as error:
        assert error.message


@pytest.mark.parametrize("keyword", [b"parameters", b"XML:com.adobe.xmp"])
@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_a_text_bomb_is_not_unpacked(kind: bytes, keyword: bytes) -> None:
    packed = zlib.compress(bytes(200 * 1024**2), 9)
    middle = b"\0\0" if kind == b"zTXt" else b"\0\1\0\0\0"
    data = PNG_HEAD + chunk(kind, keyword + middle + packed) + picture("png")[33:]
    tracemalloc.start()
    with pytest.raises(Damaged, match="unpacks to more than"):
        read(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * 1024**2


def test_a_bomb_in_a_text_that_nobody_wants_is_passed_over() -> None:
    packed = zlib.compress(bytes(50 * 1024**2), 9)
    assert read(PNG_HEAD + chunk(b"zTXt", b"Comment\0\0" + packed) + picture("png")[33:]) is None


@pytest.mark.parametrize("data", [b"junk", zlib.compress(b"x" * 1000)[:-8], b""])
def test_compressed_junk(data: bytes) -> None:
    with pytest.raises(Damaged):
        read(PNG_HEAD + chunk(b"zTXt", b"parameters\0\0" + data) + picture("png")[33:])


def test_more_metadata_than_any_honest_file_has() -> None:
    texts = b"".join(chunk(b"tEXt", b"parameters\0" + b"x" * 1024**2) for _ in range(9))
    with pytest.raises(Damaged, match="MB of metadata"):
        read(PNG_HEAD + texts + picture("png")[33:])


def test_a_checksum_that_is_wrong() -> None:
    data = WHOLE["png"]
    at = data.index(b"Steps:")
    with pytest.raises(Damaged, match="checksum"):
        read(data[:at] + b"steps" + data[at + 5 :])


def sparse(path: Path, start: bytes, size: int, at: int | None = None, end: bytes = b"") -> Path:
    with path.open("wb") as file:
        file.write(start)
        if at is not None:
            file.seek(at)
            file.write(end)
        file.truncate(size)
    return path


def test_ten_gigabytes_of_pixels_are_passed_over(tmp_path: Path) -> None:
    """Five chunks of 2 GB, and the text behind them; a sparse file."""
    path = tmp_path / "huge.png"
    length = 2**31 - 1
    text = recipe.metadata(recipe_with(), "full").parameters or ""
    with path.open("wb") as file:
        file.write(PNG_HEAD)
        try:
            for _ in range(5):
                file.write(struct.pack(">I4s", length, b"IDAT"))
                file.seek(length + 4, os.SEEK_CUR)
            file.write(chunk(b"iTXt", b"parameters\0\0\0\0\0" + text.encode()) + chunk(b"IEND", b""))
        except OSError:
            pytest.skip("this file system has no room for a sparse file of 10 GB")
    assert path.stat().st_size > 10**10
    tracemalloc.start()
    found = recipe.recipe_of(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found is not None and found.request["seed"] == 7
    assert peak < 4 * 1024**2


def test_gigabytes_of_nothing_come_to_an_end(tmp_path: Path) -> None:
    starts = {
        "zeros.png": PNG_HEAD,  # chunks of no length and no name
        "zeros.jpg": WHOLE["jpeg"][:-200],  # a scan that never ends
        "zeros.webp": b"RIFF\xfe\xff\xff\xffWEBP",
    }
    for name, start in starts.items():
        with pytest.raises(Damaged):
            recipe.recipe_of(sparse(tmp_path / name, start, 5 * 10**9))


def test_fill_bytes_without_end() -> None:
    with pytest.raises(Damaged):
        read(b"\xff\xd8" + b"\xff" * 500_000)


@pytest.mark.parametrize("length", [0, 1])
def test_a_segment_that_goes_nowhere(length: int) -> None:
    with pytest.raises(Damaged, match="no length"):
        read(b"\xff\xd8\xff\xe1" + struct.pack(">H", length) + bytes(100))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    with pytest.raises(Damaged, match="not a file"):
        recipe.recipe_of(path)


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(WHOLE["png"])
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(Damaged, match="cannot be read"):
        recipe.recipe_of(path)


# --- XMP ---------------------------------------------------------------------------------------------------


def with_packet(packet: bytes) -> bytes:
    return PNG_HEAD + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet) + picture("png")[33:]


def with_record(text: str) -> bytes:
    return with_packet(xmp.packet({xmp.RECIPE: text}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "null",
        '{"request": []}',
        '{"request": null}',
        '{"request": {"cfg": NaN}}',
        "[" * 200_000,
        '{"request": {"seed": ' + "9" * 10_000 + "}}",
    ],
)
def test_a_recipe_that_is_damaged_is_said(text: str) -> None:
    with pytest.raises(Damaged, match="recipe in the file is damaged"):
        read(with_record(text))


def test_fields_of_the_wrong_kind_count_as_unknown() -> None:
    made = read(
        with_record('{"request": {"prompt": "x"}, "request_id": 5, "seed": "7", "sandbox": 1, "tool": []}')
    )
    assert made == recipe.Recipe({"prompt": "x"}, tool=None)


def test_a_billion_laughs() -> None:
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    packet = f'<!DOCTYPE x [<!ENTITY l0 "lol">{entities}]><x>&l9;</x>'
    with pytest.raises(Damaged, match="document type"):
        read(with_packet(packet.encode()))


@pytest.mark.parametrize("packet", [b"<a>" * 100_000, b"<x", b"\xff\xfe<", b"\0" * 100, b"<x/><y/>"])
def test_packets_that_are_none(packet: bytes) -> None:
    with pytest.raises(Damaged, match="XMP packet"):
        read(with_packet(packet))


def test_a_packet_of_countless_parts() -> None:
    rdf = b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    for inside in (b"<rdf:Description>" * 250, b"<a/>" * 300_000):
        with pytest.raises(Damaged, match="too many parts"):
            read(with_packet(rdf + inside))


def test_a_broken_packet_does_not_hide_the_text_beside_it() -> None:
    text = (recipe.metadata(recipe_with(), "full").parameters or "").encode()
    data = with_packet(b"<x")
    made = read(data[:33] + chunk(b"iTXt", b"parameters\0\0\0\0\0" + text) + data[33:])
    assert isinstance(made, recipe.Recipe) and made.request["seed"] == 7


@settings(deadline=None, max_examples=300)
@given(
    st.binary(max_size=300) | st.text(alphabet="<>/rdf:RDF xmlns=\"'&;!-?[]", max_size=200).map(str.encode)
)
def test_no_packet_breaks_the_reader(packet: bytes) -> None:
    for work in (lambda: xmp.values(packet, [xmp.RECIPE]), lambda: xmp.merged(packet, {xmp.RECIPE: "x"})):
        try:
            work()
        except (Damaged, CannotExtend) as error:
            assert str(error)


# --- long packets of a JPEG --------------------------------------------------------------------------------


def long_jpeg() -> bytes:
    out = io.BytesIO()
    made = recipe.metadata(recipe_with(prompt="once upon a time, " * 12_000), "full")
    containers.embed(io.BytesIO(picture("jpeg")), "jpeg", made, out.write)
    return out.getvalue()


MORE = b"http://ns.adobe.com/xmp/extension/\0"


def test_a_piece_that_is_missing_is_noticed() -> None:
    data = long_jpeg()
    at = data.index(MORE) - 4
    (length,) = struct.unpack_from(">H", data, at + 2)
    with pytest.raises(Damaged, match="do not fit"):
        read(data[:at] + data[at + 2 + length :])


@pytest.mark.parametrize(("place", "value"), [(32, 2**32 - 1), (32, 0), (36, 2**32 - 1), (36, 1)])
def test_pieces_that_lie_about_their_place(place: int, value: int) -> None:
    data = bytearray(long_jpeg())
    at = data.index(MORE) + len(MORE) + place
    data[at : at + 4] = struct.pack(">I", value)
    with pytest.raises(Damaged):
        read(bytes(data))


def test_pieces_may_come_in_any_order() -> None:
    data = long_jpeg()
    assert data.count(MORE) >= 3
    starts = []
    at = data.find(MORE)
    while at >= 0:
        starts.append(at - 4)
        at = data.find(MORE, at + 1)
    ends = [one + 2 + struct.unpack_from(">H", data, one + 2)[0] for one in starts]
    segments = [data[start:end] for start, end in zip(starts, ends, strict=True)]
    turned = data[: starts[0]] + b"".join(reversed(segments)) + data[ends[-1] :]
    assert read(turned) == read(data) is not None


def test_limits_fit_together() -> None:
    """What is written at most can be read: the packet once, the text once in UTF-16."""
    assert 3 * parts.MAX_WRITTEN <= parts.MAX_METADATA
    assert parts.MAX_WRITTEN <= parts.MAX_INFLATED
