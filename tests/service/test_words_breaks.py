"""Long names on narrow screens."""

from __future__ import annotations

from plankter.service.words import breakable


def test_a_long_name_may_break_behind_its_signs_and_stays_text() -> None:
    assert breakable("A+b_c") == "A+<wbr>b_<wbr>c"
    assert breakable("<b>+&") == "&lt;b&gt;+<wbr>&amp;"
