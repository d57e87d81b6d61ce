"""The card of a model on its page: the few marks of Markdown that cards use. Cards come from outside too: all is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup, escape

from plankter.service.words import ticks

LONG_TABLE = 12  # rows, above which it scrolls by itself
_NUMBER = re.compile(r"[-–]|[+−-]?[\d.,]+ ?%?")


def card_page(text: str) -> Markup:
    """A card as a part of a page: headings below the page's own, lists, tables, paragraphs; its title is left out."""
    lines, parts = [line.rstrip() for line in text.splitlines()], []
    at, heading = 0, "Card"
    while at < len(lines):
        line, end = lines[at], at + 1
        if line.startswith("#"):
            level, heading = len(line) - len(line.lstrip("#")), line.lstrip("#").strip()
            if level > 1:
                parts.append(Markup("<h3>{}</h3>").format(_words(heading)))
        elif line.startswith(("- ", "|")):
            while end < len(lines) and lines[end].startswith(line[:1]):
                end += 1
            parts.append(_table(lines[at:end], heading) if line.startswith("|") else _list(lines[at:end]))
        elif line:
            while end < len(lines) and lines[end] and not lines[end].startswith(("#", "- ", "|")):
                end += 1
            parts.append(Markup("<p>{}</p>").format(_words(" ".join(lines[at:end]))))
        at = end
    return Markup("\n").join(parts)


def _words(text: str) -> Markup:
    return ticks(text.replace("\\|", "|").replace("&lt;", "<").strip())


def _list(lines: Sequence[str]) -> Markup:
    return Markup("<ul>{}</ul>").format(
        Markup("").join(Markup("<li>{}</li>").format(_words(line[1:])) for line in lines)
    )


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def _table(lines: Sequence[str], name: str) -> Markup:
    """A table whose columns of numbers stand to the right; a long one scrolls by itself and is reached by the keyboard."""
    head, *rows = [_cells(line) for line in lines if not re.fullmatch(r"[|\s:-]+", line)] or [[]]
    right = [all(_NUMBER.fullmatch(row[n]) for row in rows if n < len(row)) and n > 0 for n in range(len(head))]
    css = [Markup(' class="n"') if one else "" for one in right]
    top = Markup("").join(
        Markup('<th scope="col"{}>{}</th>').format(kind, _words(c)) for kind, c in zip(css, head, strict=True)
    )
    body = Markup("").join(
        Markup("<tr>{}</tr>").format(
            Markup("").join(
                Markup("<td{}>{}</td>" if n else '<th scope="row"{}>{}</th>').format(css[n], _words(cell))
                for n, cell in enumerate(row[: len(head)])
            )
        )
        for row in rows
    )
    long = (
        Markup(' tall" tabindex="0" role="region" aria-label="{}').format(escape(name))
        if len(rows) > LONG_TABLE
        else ""
    )
    return Markup('<div class="scroll{}"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>').format(
        long, top, body
    )
