"""The text of VisualSpreadsheet's files: which encoding, which line ends, which paths."""

from __future__ import annotations

import codecs

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode_text(data: bytes) -> str:
    """Bytes of any encoding seen in the field -> text; never fails.

    VisualSpreadsheet writes the Windows code page; editors and scripts leave UTF-8, with or without mark, and UTF-16.
    What is not valid UTF-8 is taken as Latin-1, where every byte is a character.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    head = data[:400]
    for zeros, encoding in ((head[1::2], "utf-16-le"), (head[0::2], "utf-16-be")):
        # text of Latin letters in UTF-16 has a zero in every second byte
        if len(zeros) >= 2 and zeros.count(0) > 0.8 * len(zeros):
            return data.decode(encoding, errors="replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def split_lines(text: str) -> list[str]:
    """Lines without their ends (CRLF, LF or CR); the piece after the last end is left out where it is empty."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    return lines


def base_name(path: str) -> str:
    r"""The last part of a Windows or POSIX path: ``C:\data\x.tif`` -> ``x.tif``; ``..`` and ``.`` give ''."""
    name = path.strip().replace("\\", "/").rsplit("/", 1)[-1].rsplit(":", 1)[-1].replace("\0", "")
    return "" if name in (".", "..") else name
