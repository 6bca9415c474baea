"""Every relative link and image of the pages leads to a file that is there, and to a heading in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, anchors, links, pages

PAGES = [*pages(), *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "results/README.md"))]


def broken(page: Path, root: Path = ROOT) -> list[str]:
    text = page.read_text(encoding="utf-8")
    out = []
    for number, target in links(text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or not path.is_relative_to(root):
            out.append(f"{page.name}:{number}: no {name}")
        elif anchor and (path.suffix != ".md" or anchor not in anchors(path.read_text(encoding="utf-8"))):
            out.append(f"{page.name}:{number}: no heading #{anchor} in {name or page.name}")
    return out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert not broken(page)


def test_what_is_broken_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        '# Here\n[a](#here) [b](#there) [c](absent.md) ![d](absent.png) <source srcset="absent.svg">\n'
    )
    assert [line.rpartition(" no ")[2] for line in broken(page, tmp_path)][1:] == [
        "absent.md",
        "absent.png",
        "absent.svg",
    ]
    assert "heading #there" in broken(page, tmp_path)[0]


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {target.partition("#")[0] for _, target in links(index.read_text(encoding="utf-8"))}
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"} <= linked
