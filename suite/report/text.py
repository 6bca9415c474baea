"""Numbers and names as text for tables. Names are untrusted, so each format escapes them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence

from suite.report.stats import Interval
from suite.report.verdicts import Word

UNTUNED = "untuned: not a ranking"

VIEW_TITLES = {
    "epochs": "equal epochs",
    "sample-gradients": "equal sample-gradients",
    "seconds": "equal seconds",
}

WORDS = {
    Word.BEST: "best set",
    Word.TIE: "tie",
    Word.UNRESOLVED: "unresolved",
    Word.WORSE: "worse",
    Word.FAILED: "failed runs",
    Word.UNDECIDED: "undecided",
    Word.ALONE: "no other row",
}


def runs(counts: Iterable[int]) -> str:
    """Write the range of the numbers of runs: `n = 3 to 10`."""
    ordered = sorted(counts) or [0]
    least, most = ordered[0], ordered[-1]
    return f"n = {least}" if least == most else f"n = {least} to {most}"


def plain(text: str) -> str:
    """Put text on one line: white space and control, format and surrogate characters become single spaces."""
    kept = (" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    return " ".join("".join(kept).split())


def name_key(label: str) -> tuple[str | float, ...]:
    """Return a sort key of a name that compares numbers by value: rho=0.02 before rho=0.1."""
    pieces = re.split(r"((?:(?<==)-)?\d+(?:\.\d+)?(?:e[+-]?\d+)?)", label)
    return tuple(float(piece) if at % 2 else piece for at, piece in enumerate(pieces))


def by_name(names: Iterable[str]) -> list[str]:
    """Sort names by `name_key`."""
    return sorted(names, key=lambda name: (name_key(name), name))


def distinct(names: Iterable[str], limit: int | None = None) -> dict[str, str]:
    """Return one-line forms of names, still distinct; names longer than `limit` are cut in the middle."""
    out: dict[str, str] = {}
    taken = set()
    for name in dict.fromkeys(names):
        label = plain(name) or "(no name)"
        if limit is not None and len(label) > limit:
            label = f"{label[: limit * 2 // 3]}...{label[-(limit // 3) :]}"
        shown, count = label, 1
        while shown in taken:
            count += 1
            shown = f"{label} ({count})"
        taken.add(shown)
        out[name] = shown
    return out


def markdown(text: str) -> str:
    """Escape text so that Markdown shows it literally, in tables and elsewhere."""
    text = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\|`*$~])", r"\\\1", text)
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # inside a word an underscore is harmless
    text = re.sub(r"\](?=[\[(:])", r"\\]", text)  # a link needs one of these after its bracket
    return re.sub(r"^([#+-]|\d+[.)])(?=\s|$)", r"\\\1", text)


def spreadsheet(text: str) -> str:
    """Escape text so that a spreadsheet does not read it as a formula."""
    text = plain(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def grid(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """Lay out a Markdown table whose columns are aligned in plain text too; `right` aligns to the right."""
    widths = [max(3, *(len(row[i]) for row in (header, *rows))) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(cells, widths, right, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, right, strict=True)]
    return [line(header), line(rule), *map(line, rows)]


def percent(interval: Interval | None) -> str:
    """Write mean and half-width of a fraction in percent."""
    if interval is None:
        return "-"
    half = "" if interval.half is None else f" ± {100 * interval.half:.2f}"
    return f"{100 * interval.mean:.2f}{half}"


def number(value: float | None, digits: int = 3) -> str:
    """Write a number with the given significant digits, without trailing zeros."""
    if value is None:
        return "-"
    return f"{value:.{digits}g}" if _is_short(value) else f"{value:.{digits - 1}e}"


def seconds(value: float | None) -> str:
    """Write seconds to a tenth, and below 1 s with two significant digits."""
    return f"{value:.1f}" if value is not None and value >= 1 else number(value, 2)


def measured(interval: Interval | None) -> str:
    """Write mean and half-width: the half-width with two significant digits, the mean to the same place."""
    if interval is None:
        return "-"
    if interval.half is None:
        return number(interval.mean)
    if not interval.half:
        return f"{number(interval.mean)} ± 0"
    digits = max(2, _exponent(interval.mean) - _exponent(interval.half) + 2)
    return f"{_rounded(interval.mean, digits)} ± {_rounded(interval.half, 2)}"


def geometric(mean: float, half: float | None) -> str:
    """Write a geometric mean and the factor of its interval; `half` is in decades."""
    if half is None:
        return number(mean)
    above = 10.0 ** min(half, 150) - 1
    if not above:
        return f"{number(mean)} ×/÷ 1"
    decimals = 1 - _exponent(above)
    factor = f"{1 + above:.{decimals}f}" if above < 1 else number(1 + above, 2)
    return f"{_rounded(mean, max(3, decimals + 1))} ×/÷ {factor}"


_MOST_DIGITS = 9


def _rounded(value: float, digits: int) -> str:
    """Write a number with the given significant digits, trailing zeros included."""
    digits = min(_MOST_DIGITS, digits)
    shown = f"{value:.{digits - 1}e}"
    if not _is_short(value):
        return shown
    return f"{value:.{max(0, digits - 1 - _exponent(float(shown)))}f}"


def _is_short(value: float) -> bool:
    """Whether a number is written without an exponent."""
    return not value or 1e-3 <= abs(value) < 1e5


def _exponent(value: float) -> int:
    return math.floor(math.log10(abs(value))) if value else 0
