"""A headless Chromium to open pages in, where there is one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")


@contextmanager
def chromium(width: int = 1280, height: int = 1000, dark: bool = False) -> Iterator[Browser]:
    """A browser with a window of that size; the test is skipped, and says why, where none is installed."""
    binary = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    driver_path = shutil.which("chromedriver")
    if not binary or not driver_path:
        pytest.skip("no Chromium with chromedriver here: install chromium and chromium-driver to test the page")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    try:
        yield Browser(driver, width, height, dark)
    finally:
        driver.quit()


class Browser:
    """What the tests of the page do in a browser."""

    def __init__(self, driver: Any, width: int, height: int, dark: bool) -> None:
        self.driver = driver
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        driver.execute_cdp_cmd("Network.enable", {})
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)

    def open(self, path: Path) -> None:
        """Open a file and wait until its script has run."""
        self.driver.get(path.as_uri())
        assert self.run("return document.documentElement.dataset.ready") == "true", self.errors()

    def run(self, script: str, *arguments: Any) -> Any:
        """The value of a script in the page."""
        return self.driver.execute_script(script, *arguments)

    def errors(self) -> list[str]:
        """What the page wrote to its console."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def text(self, selector: str) -> str:
        """The text of an element."""
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def texts(self, selector: str) -> list[str]:
        """The texts of all elements."""
        return self.run("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector)

    def go(self, layer: str, wrt: str, index: tuple[int, ...]) -> None:
        """Choose a cell by the page's address, as a link would."""
        at = ",".join(map(str, index))
        self.run(
            f"location.hash = 'layer=' + encodeURIComponent({json.dumps(layer)}) + '&wrt={wrt}&at={at}';"
            "window.dispatchEvent(new PopStateEvent('popstate'))"
        )

    def click_cell(self, side: str, row: int, column: int) -> None:
        """Click a cell of the heat map of a side, counted in the window that it shows."""
        from selenium.webdriver import ActionChains

        canvas = self.driver.find_element("css selector", f".panel[data-side={side}] canvas.heatmap")
        self.run("arguments[0].scrollIntoView({block: 'center'})", canvas)
        width, height = canvas.size["width"], canvas.size["height"]
        size = self.cell_size(side)
        x, y = (column + 0.5) * size - width / 2, (row + 0.5) * size - height / 2
        ActionChains(self.driver).move_to_element_with_offset(canvas, x, y).click().perform()

    def cell_size(self, side: str) -> float:
        """Pixels of a cell of a heat map."""
        return float(
            self.run("return document.querySelector(arguments[0]).dataset.cell", f"[data-side={side}] .heatmap")
        )

    def press(self, selector: str, *keys: str) -> None:
        """Focus an element and press keys by their names in selenium."""
        from selenium.webdriver.common.keys import Keys

        element = self.driver.find_element("css selector", selector)
        self.run("arguments[0].focus()", element)
        for key in keys:
            element.send_keys(getattr(Keys, key))
