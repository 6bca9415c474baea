"""One Chromium for all tests, and pages that watch themselves: no error, no request beyond the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.browser import sites

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
PATIENCE_MS = 60_000
"""How long a page may take on a machine that is busy with other things."""

expect.set_options(timeout=PATIENCE_MS)

Open = Callable[..., Page]


def find_chromium() -> str:
    """Find the browser; without one the tests are skipped by name, except where CI must have it."""
    found = shutil.which("chromium")
    if found is not None:
        return found
    reason = "no chromium on this machine: apt-get install chromium"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = find_chromium()
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=ARGUMENTS, timeout=2 * PATIENCE_MS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Path:
    """A site with curves."""
    return sites.write(tmp_path_factory.mktemp("stored"), curves=True)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Path:
    """The same from published records, which have no curves."""
    return sites.write(tmp_path_factory.mktemp("published"), curves=False)


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Path:
    """A site of tasks that classify no images, with curves."""
    return sites.write(tmp_path_factory.mktemp("foreign"), curves=True, some=sites.foreign_tasks())


class Watch:
    """What went wrong on the pages of a context."""

    def __init__(self, context: BrowserContext) -> None:
        self.faults: list[str] = []
        context.on("console", lambda message: self._say(message.type, message.text))
        context.on("weberror", lambda error: self.faults.append(f"error: {error.error}"))
        context.on("request", lambda request: self._ask(request.url))

    def _say(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.faults.append(f"console: {text}")

    def _ask(self, url: str) -> None:
        if not url.startswith(("file://", "data:", "blob:")):
            self.faults.append(f"request: {url}")


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Open a page of a site from the disk; whatever it complains of fails the test that opened it."""
    contexts: list[tuple[BrowserContext, Watch]] = []

    def call(root: Path, name: str = "index.html", *, width: int = 1280, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append((context, Watch(context)))
        page = context.new_page()
        page.goto(f"{root.as_uri()}/{name}")
        return page

    yield call
    faults = [fault for _, watch in contexts for fault in watch.faults]
    for context, _ in contexts:
        context.close()
    assert not faults
