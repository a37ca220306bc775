"""XMP packets: writing one, adding properties to one that is there, reading simple properties.

A packet of another program is never written anew: ours goes in as one more description before the end, and
theirs stays byte for byte. No packet with a document type is accepted, so no entity can grow.
Source: the XMP specification, parts 1 and 3 (Adobe, ISO 16684-1).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from chroma_cli.images.parts import MAX_PARTS, CannotExtend, Damaged

SOURCE_TYPE: Final = "Iptc4xmpExt:DigitalSourceType"
CREATOR_TOOL: Final = "xmp:CreatorTool"
CREATE_DATE: Final = "xmp:CreateDate"
RECIPE: Final = "chroma:Recipe"
SHEET: Final = "chroma:Sheet"
SWEEP: Final = "chroma:Sweep"
EXTENDED: Final = "xmpNote:HasExtendedXMP"

NAMESPACES: Final = {
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpNote": "http://ns.adobe.com/xmp/note/",
    # Ours; nothing stands at this address, as is usual for such names.
    "chroma": "https://chroma-cli.dev/ns/1.0/",
}

_RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_PACKET_ID: Final = "W5M0MpCehiHzreSzNTczkc9d"  # the same in every packet, by the specification
_MAX_DEPTH: Final = 200
#: What no XML 1.0 document may hold, not even as a reference.
_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def packet(properties: Mapping[str, str]) -> bytes:
    """A whole packet with these properties."""
    return (
        f'<?xpacket begin="\ufeff" id="{_PACKET_ID}"?>\n'.encode()
        + bare(properties)
        + b'\n<?xpacket end="w"?>'
    )


def bare(properties: Mapping[str, str]) -> bytes:
    """A packet without its wrapper, as the extension of a JPEG's packet must be."""
    inside = _description(properties, about="")
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/">\n <rdf:RDF xmlns:rdf="{_RDF}">\n{inside}'
        " </rdf:RDF>\n</x:xmpmeta>"
    ).encode()


def merged(existing: bytes | None, properties: Mapping[str, str]) -> bytes:
    """The existing packet with ``properties`` added; one that is there already stays as it is.

    Only an older recipe of ours makes room for the new one. Raises :class:`CannotExtend` when the packet is
    not one that can be added to safely.
    """
    if existing is None:
        return packet(properties)
    try:
        seen = _parse(existing)
    except Damaged as damage:
        raise CannotExtend(f"its XMP packet cannot be extended: {damage.message}") from damage
    if seen.closing is None:
        raise CannotExtend("its XMP packet has no place for more properties")
    if RECIPE in seen.values and not seen.recipes:
        raise CannotExtend("its XMP packet holds another recipe, in a form that cannot be replaced")
    there = {name for name in seen.values if name != RECIPE}
    missing = {name: value for name, value in properties.items() if name not in there}
    if not missing:
        return existing
    data = existing[: seen.closing] + _description(missing, seen.about).encode() + existing[seen.closing :]
    for start, end in reversed(seen.recipes):
        data = data[:start] + data[end:]
    return data


def values(data: bytes, names: Collection[str]) -> dict[str, str]:
    """The simple properties among ``names`` that the packet holds. Raises :class:`Damaged`."""
    return {name: value for name, value in _parse(data).values.items() if name in names}


def _description(properties: Mapping[str, str], about: str) -> str:
    prefixes = sorted({name.partition(":")[0] for name in properties})
    spaces = "".join(f'\n    xmlns:{prefix}="{NAMESPACES[prefix]}"' for prefix in prefixes)
    lines = "".join(f"   <{name}>{_text(value)}</{name}>\n" for name, value in properties.items())
    return (
        f'  <rdf:Description xmlns:rdf="{_RDF}" rdf:about={quoteattr(about)}{spaces}>\n'
        f"{lines}  </rdf:Description>\n"
    )


def _text(value: str) -> str:
    return escape(_FORBIDDEN.sub("\ufffd", value))


@dataclass
class _Seen:
    """What a parse found; offsets are in bytes."""

    values: dict[str, str] = field(default_factory=dict)
    #: Where the list of descriptions ends.
    closing: int | None = None
    about: str = ""
    recipes: list[tuple[int, int]] = field(default_factory=list)


def _parse(data: bytes) -> _Seen:
    data = data.rstrip(b"\0 \r\n\t")
    try:
        data.decode("utf-8")
        return _Reader(data).read()
    except UnicodeDecodeError as error:
        raise Damaged("The XMP packet is not UTF-8.") from error
    except (expat.ExpatError, ValueError) as error:
        raise Damaged(f"The XMP packet is not well-formed: {error}.") from error


class _Reader:
    """One pass over a packet. Elements are named ``namespace local`` by the parser."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.seen = _Seen()
        self.path: list[str] = []
        self.text: list[str] = []
        self.start = 0
        self.parts = 0
        self.names = {f"{uri} ": prefix for prefix, uri in NAMESPACES.items()}
        self.parser = expat.ParserCreate("UTF-8", " ")
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._no_doctype
        self.parser.StartElementHandler = self._begin
        self.parser.EndElementHandler = self._finish
        self.parser.CharacterDataHandler = self._characters

    def read(self) -> _Seen:
        self.parser.Parse(self.data, True)
        return self.seen

    def _no_doctype(self, *_: Any) -> None:
        raise Damaged("The XMP packet has a document type, which no honest one has.")

    def _name(self, element: str) -> str | None:
        """``prefix:local`` for a property in one of the known namespaces."""
        uri, _, local = element.rpartition(" ")
        prefix = self.names.get(f"{uri} ")
        return f"{prefix}:{local}" if prefix else None

    def _begin(self, element: str, attributes: dict[str, str]) -> None:
        self.parts += 1 + len(attributes)
        if len(self.path) >= _MAX_DEPTH or self.parts > MAX_PARTS:
            raise Damaged("The XMP packet makes no sense: it is nested too deeply, or has too many parts.")
        if self.path[-1:] == [f"{_RDF} RDF"] and element == f"{_RDF} Description":
            self.seen.about = self.seen.about or attributes.get(f"{_RDF} about", attributes.get("about", ""))
            for key, value in attributes.items():
                self._keep(key, value)
        elif self._in_description():
            self.text = []
            self.start = self.parser.CurrentByteIndex
        self.path.append(element)

    def _in_description(self) -> bool:
        return self.path[-2:] == [f"{_RDF} RDF", f"{_RDF} Description"]

    def _keep(self, element: str, value: str) -> None:
        name = self._name(element)
        if name is not None:
            self.seen.values.setdefault(name, value)

    def _finish(self, element: str) -> None:
        self.path.pop()
        at = self.parser.CurrentByteIndex
        if element == f"{_RDF} RDF" and self.data[at : at + 2] == b"</":
            self.seen.closing = at
        elif self._in_description():
            self._keep(element, "".join(self.text))
            if self._name(element) == RECIPE:
                self.seen.recipes.append((self.start, self.data.index(b">", at) + 1))

    def _characters(self, text: str) -> None:
        self.text.append(text)
