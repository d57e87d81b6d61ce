"""Cards of models as pages, and the lists in which a model is chosen."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from plankter.publish.model_card import model_card
from plankter.service.cards import card_page
from plankter.service.state import templates

CLASS = {"aphia_id": 148947, "train": 1513, "tune": 46, "judge": 54, "precision": 0.681, "recall": 0.87, "f1": 0.764}


def card(count: int) -> str:
    classes = [{"class_id": f"Tripos_{n}", **CLASS} for n in range(count)]
    return card_page(
        model_card("a|b", {"data": "x <b> | y"}, {"images": 3450, "top1": 0.859}, classes, warnings=["odd"])
    )


def test_a_card_of_ours_is_headings_lists_and_tables() -> None:
    page = card(3)
    assert "<h3>How good it is</h3>" in page and "<li>data: x &lt;b&gt; | y</li>" in page and "a|b" not in page
    assert '<th scope="row">first class right</th><td class="n">0.859</td>' in page
    assert page.count("<tr>") == 1 + 6 + 1 + 3 and "<p>On 3,450 images" in page and "---" not in page
    assert 'tabindex="0"' not in page
    long = card(40)
    assert 'class="scroll tall" tabindex="0" role="region" aria-label="Classes"' in long


def test_a_hostile_card_stays_text() -> None:
    hostile = '# t\n## <script>alert(1)</script>" onload="x\n- <img src=x>\n| a" | &lt;b&gt; |\n| --- | --- |\n' + "| <i> | `<u>` |\n" * 20  # fmt: skip
    page = card_page(hostile + "<p>free\n| odd | row | with | more |\n|\n||\n- ")
    assert not re.search(r"<(script|img|i|u|b)\b", page) and 'onload="x"' not in page
    assert "aria-label=\"&lt;script&gt;alert(1)&lt;/script&gt;&#34; onload=&#34;x\"" in page  # fmt: skip


@given(st.text(alphabet="#-| \\`<>&\"'a\n", max_size=200))
def test_any_text_is_a_card_without_marks_of_its_own(text: str) -> None:
    page = card_page(text)
    assert set(re.findall(r"</?([a-z0-9]*)", page)) <= {
        "h3", "ul", "li", "p", "div", "table", "thead", "tbody", "tr", "th", "td", "code",
    }  # fmt: skip


def test_of_two_models_with_one_name_the_first_is_meant_and_both_say_where_they_are_from() -> None:
    models = [
        {"model_id": "a" * 16, "name": "flowcam", "classes": 95, "top1": 0.859, "source": "built-in"},
        {"model_id": "b" * 16, "name": "flowcam", "classes": 95, "top1": 0.824, "source": "workspace"},
        {"model_id": "c" * 16, "name": "mine", "classes": 3, "top1": None, "source": "trained here"},
    ]
    macro = templates().get_template("_macros.html.j2").module.model_select  # type: ignore[attr-defined]
    for chosen, meant in (("flowcam", "a"), ("b" * 16, "b"), ("mine", "c"), ("", None), ("gone", None)):
        page = macro(models, chosen, empty="none")
        assert re.findall(r'value="(\w)\w*" selected', page) == ([meant] if meant else []), chosen
    words = re.findall(r">([^<\n]+)</option>", page)
    assert words == [
        "none",
        "flowcam (built in, 85.9 % right)",
        "flowcam (kept here, 82.4 % right)",
        "mine (3 classes)",
    ]
