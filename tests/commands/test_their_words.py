"""What a picture came with stays in it beside the recipe, wherever it stands."""

from __future__ import annotations

import struct
import zlib

import pytest
from kit import Reply, is_whole, picture

pytestmark = pytest.mark.usefixtures("clock")

THEIRS = b"""<?xpacket begin='' id='W5M0MpCehiHzreSzNTczkc9d'?><x:xmpmeta xmlns:x='adobe:ns:meta/'>
<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description rdf:about=''
xmlns:photoshop='http://ns.adobe.com/photoshop/1.0/' photoshop:Credit='their credit'/></rdf:RDF></x:xmpmeta>
<?xpacket end='w'?>"""


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(("keyword", "text"), [(b"XML:com.adobe.xmp", THEIRS), (b"Comment", b"their credit")])
def test_text_before_and_behind_the_pixels(gateway, chroma, recipe_of, work, keyword, text, behind) -> None:
    whole = picture(1)
    body = b"iTXt" + keyword + b"\0\0\0\0\0" + text
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    place = whole.index(b"IEND" if behind else b"IDAT") - 4
    gateway.on("file", Reply(200, [], whole[:place] + chunk + whole[place:]), always=True)
    assert chroma("generate", "a red fox", "-o", "fox.png").code == 0
    saved = (work / "fox.png").read_bytes()
    assert is_whole(saved)
    assert b"their credit" in saved
    assert saved.count(b"XML:com.adobe.xmp") == 1
    assert recipe_of("fox.png")["request"]["prompt"] == "a red fox"
    assert gateway.downloads() == 1
