"""Chromium without a network, as tests and `python -m tests.drawing` show pages in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
NEEDED = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None,
        reason="no Chromium here (Debian: apt install chromium chromium-driver)",
    ),
]


@contextmanager
def chromium(folder: Path, width: int, height: int = 1000) -> Iterator[webdriver.Chrome]:
    """A browser that reaches this machine alone and keeps a log of what it fetches.

    Args:
        folder: for its profile.
        width: of its window in pixels.
        height: of the same.
    """
    assert CHROMIUM is not None
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.add_argument("--headless=new")
    options.add_argument("--no-sandbox")  # root has none, and the pages are our own
    options.add_argument("--disable-dev-shm-usage")  # small in containers
    options.add_argument(f"--window-size={width},{height}")
    options.add_argument(f"--user-data-dir={folder}")
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()
