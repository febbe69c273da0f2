"""A headless Chromium without a network, and the sample report opened in it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# The sample report belongs to the report's own tests.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "crosstime" / "report"))
import report_sample as sample

from crosstime.report.page.write_report import write_report

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("there is no Chromium on this machine: apt-get install chromium")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def sample_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(sample.sample(), tmp_path_factory.mktemp("sample"))


class Tab:
    """A page opened from disk without a network, and the errors that it reported."""

    def __init__(self, browser: Any, width: int, height: int = 900) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, offline=True)
        # For busy machines: what is waited for is an event
        self.context.set_default_timeout(120_000)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self._note(message.type, message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def _note(self, kind: str, text: str) -> None:
        # Vega-Lite warns about independent axes of panels, which are intended
        if kind == "error" or (kind == "warning" and "independent scales" not in text):
            self.complaints.append(f"{kind}: {text}")

    def open(self, path: Path, anchor: str = "") -> Any:
        """Open a page, and wait until its feature browser is there, which unpacks the features first."""
        self.page.goto(path.as_uri() + anchor)
        self.page.wait_for_function("() => !document.querySelector('#browser[hidden]')")
        return self.page

    def draw_all(self) -> list[str]:
        """Scroll every chart into view and wait until it is drawn; give the names of the charts."""
        names = self.page.eval_on_selector_all("[data-chart]", "places => places.map(place => place.dataset.chart)")
        for name in names:
            self.page.locator(f"[data-chart={name}]").scroll_into_view_if_needed()
            self.page.wait_for_selector(f"[data-chart={name}][data-drawn]")
        return names


@pytest.fixture
def tab(chromium: Any) -> Iterator[Tab]:
    opened = Tab(chromium, 1280)
    yield opened
    opened.context.close()


@pytest.fixture
def phone(chromium: Any) -> Iterator[Tab]:
    opened = Tab(chromium, 390, 844)
    yield opened
    opened.context.close()
