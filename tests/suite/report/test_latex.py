"""LaTeX: what it says, and that no name acts in it."""

import random
import re

import pytest

from suite import ENGINE, PROTOCOL
from suite.report import latex
from tests.suite.report.fake_records import board, record, seeds, wavy

HOSTILE = [
    "\\input{x}", "100%", "a&b", "a_b", "#1", "$x$", "~tilde^hat", "}{", "{", "\\\\", "[h!]", "*", "]",
    "`code'", "<script>alert(1)</script>", "🚀", "é σ Ж", "x" * 300, "bell\x07\x00\u202e", "a\n\nb", "--",
    "^^5cinput{x}", "\\end{tabular}", "%\n\\input{x}", "\u2028|\"",
]  # fmt: skip

COMMANDS = {
    "begin", "end", "centering", "caption", "resizebox", "ifdim", "width", "linewidth", "else", "fi",
    "toprule", "midrule", "bottomrule", "pm", "times", "textbackslash", "textasciitilde", "textasciicircum",
    "textless", "textgreater", "textbar", "textasciigrave", "texttt",
}  # fmt: skip


def depth(text):
    """Nesting of braces that are not escaped, from the first character to the last."""
    level, out, i = 0, [], 0
    while i < len(text):
        if text[i] == "\\":
            i += 2
            continue
        level += {"{": 1, "}": -1}.get(text[i], 0)
        out.append(level)
        i += 1
    return out


def lines(text):
    """The lines that LaTeX reads, without comments."""
    return [line for line in text.splitlines() if not line.startswith("%")]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_harmless(name):
    page = latex.render(board([record(name), record(name, 1), record("sgd")], command=f"steppe -o '{name}'"))
    ordinary = latex.render(board([record("a"), record("a", 1), record("sgd")]))
    assert len(page.splitlines()) == len(ordinary.splitlines())
    read = lines(page)
    text = "\n".join(read)
    levels = depth(text)
    assert min(levels) == 0
    assert levels[-1] == 0
    assert set(re.findall(r"\\([a-zA-Z]+)", text.replace("\\\\", ""))) <= COMMANDS
    assert text.isprintable() or set(text) - {"\n"} == {c for c in text if c.isprintable()}
    rows = [line for line in read if line.endswith(r" \\")]
    assert rows
    for line in rows:
        cells = re.split(r"(?<!\\)&", line)
        assert len(cells) in (10, 4)  # results; sharpness of one measure
        assert not line.lstrip().startswith(("[", "*"))  # the row before would take it as an argument
        assert line.replace(r"\$", "").count("$") % 2 == 0
    for line in read:
        if not line.startswith((r"\resizebox", r"\begin")):
            assert not re.search(r"(?<!\\)[#~%]", line)
            assert not re.search(r"(?<!\\)[_^]", re.sub(r"\$\\times10\^\{-?\d+\}\$", "", line))


@pytest.mark.parametrize(
    ("name", "shown"),
    [("sam[rho=0.1]", "sam{[}rho=0.1{]}"), ("lpf-sgd", "lpf-sgd"), ("a_b", r"a\_b"), ("50 %", r"50 \%"),
     ("\\x", r"\textbackslash{}x"), ("é", "é"), ("σ", r"\texttt{U+03C3}"), ("a--b", "a-{}-{}b"),
     ("±1×", r"$\pm$1$\times$"), ("\x07", "")],
)  # fmt: skip
def test_escape(name, shown):
    assert latex.escape(name) == shown


def test_what_a_table_says():
    page = latex.render(board([*seeds("sgd", wavy(0.60)), *seeds("sam", wavy(0.70))], command="steppe x"))
    assert page.startswith("% Made by: steppe x\n")
    caption = next(line for line in page.splitlines() if line.startswith(r"\caption"))
    for part in ("images on images-jpeg: equal epochs, 1x (untuned: not a ranking)", "n = 10 seeds",
                 "small tier, budget 40 epochs", "fp32 on cpu", f"protocol {PROTOCOL}, engine {ENGINE}",
                 "Mean and 95 \\% t interval"):  # fmt: skip
        assert part in caption
    assert r"sam & 10 & 0 of 10 & 70.00 $\pm$ 0.72 & 72.00 $\pm$ 0.72" in page
    assert r"2.00$\times$ & 100.0 & best set \\" in page
    assert r"hessian\_trace@1000" in page
    assert "Rows are at matched training loss" in page
    assert page.count(r"\begin{table}") == page.count(r"\bottomrule") == 6  # two tables, three views


def test_untuned_tables_bold_nobody():
    page = latex.render(board([*seeds("sgd", wavy(0.60)), *seeds("sam", wavy(0.70))]))
    assert "best set" in page
    assert not re.search(r"\\(textbf|bfseries|mathbf)", page)


def test_exponents_dashes_and_letters_of_machines():
    records = [record("sgd", curvature=5.09e7), record("sam", curvature=None, fingerprint="cpu B")]
    page = latex.render(board(records))
    assert r"5.09$\times10^{7}$" in page
    assert "100.0 {[}a]" in page
    assert "{[}b{]} cpu B" in page
    failed = latex.render(board([record("sgd", failed=True)]))
    assert "1 of 1 & -- & -- & --" in failed


def test_long_names_are_cut_and_stay_apart():
    page = latex.render(
        board([record("x" * 300), record("x" * 299 + "y"), record("x" * 150 + "z" + "x" * 149)])
    )
    names = [line.split(" & ")[0] for line in lines(page) if line.startswith("xxx")]
    assert max(map(len, names)) < 80
    assert len(set(names[: len(names) // 2])) == 3


def test_no_records():
    assert "% No records to show." in latex.render(board([]))
    left = latex.render(board([record(protocol="theirs\n\\input{x}")]))
    assert "% 1 record of protocol theirs \\input{x} left out" in left
    assert lines(left) == []


def test_the_same_bytes_for_any_order():
    records = [*seeds("sgd", wavy(0.7)), *seeds("sam", wavy(0.71), epochs=20.0)]
    pages = set()
    for i in range(3):
        random.Random(i).shuffle(records)
        pages.add(latex.render(board(records)))
    assert len(pages) == 1
