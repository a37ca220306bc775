"""The summaries of a run for machines and for pages: well-formed whatever stands in them."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from chroma_cli.jobs.summary import OUTCOMES, Line, Report, junit, markdown

TEXT = st.text(max_size=30)
LINES = st.builds(
    Line,
    TEXT,
    st.sampled_from(OUTCOMES),
    st.floats(0, 10),
    st.none() | st.floats(0, 100),
    st.lists(TEXT, max_size=2).map(tuple),
    st.none() | TEXT,
    st.none() | TEXT,
    st.none() | TEXT,
)


@settings(max_examples=40)
@given(st.lists(LINES, max_size=4), TEXT)
def test_reports_survive_any_text(lines: list[Line], title: str) -> None:
    report = Report(title, tuple(lines), 1.0, title)
    root = ElementTree.fromstring(junit(report).encode("utf-8", "strict"))
    assert len(root[0]) == len(lines)
    failed = sum(line.outcome in ("failed", "unknown", "unfinished") for line in lines)
    assert len(root.findall(".//failure")) == failed == int(root.get("failures") or 0)
    rows = [line for line in markdown(report, "$1").split("\n") if line.startswith("| ")]
    assert {row.count("|") for row in rows} <= {4, 5}
