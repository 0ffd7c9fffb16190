"""A browser for tests: Chromium, led by chromedriver over the W3C's WebDriver protocol.

The protocol is JSON over HTTP, of which a test of a page needs very little.
Source: W3C, WebDriver, w3.org/TR/webdriver2.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from typing import Any, Callable, Iterator

import pytest

PATIENCE = 20  # seconds: whatever takes longer hangs
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name for one
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy on the way


class Browser:
    """A session of a browser: pages are opened, looked at by JavaScript, clicked and typed in."""

    def __init__(self, driver: str, options: dict) -> None:
        self.base = driver
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        made = self.send("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.base = f"{driver}/session/{made['sessionId']}"

    def send(self, method: str, path: str, body: dict | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with OPENER.open(request, timeout=3 * PATIENCE) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            with error:
                value = json.load(error)["value"]
            raise AssertionError(f"{value['error']}: {value['message'][:500]}") from None

    def open(self, url: str) -> None:
        self.send("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """What JavaScript returns, the body of a function of `arguments`."""
        return self.send("POST", "/execute/sync", {"script": script, "args": arguments})

    def element(self, selector: str) -> str:
        found = self.send("POST", "/element", {"using": "css selector", "value": selector})
        return found[ELEMENT]

    def click(self, selector: str) -> None:
        self.send("POST", f"/element/{self.element(selector)}/click", {})

    def type(self, selector: str, text: str) -> None:
        """Type in what has the focus afterwards; keys without a letter have codes from U+E000."""
        self.send("POST", f"/element/{self.element(selector)}/value", {"text": text})

    def fill(self, selector: str, text: str) -> None:
        """Type in place of what is there."""
        self.send("POST", f"/element/{self.element(selector)}/clear", {})
        if text:
            self.type(selector, text)

    def point(self, selector: str) -> None:
        """Move the pointer to the middle of an element."""
        origin = {ELEMENT: self.element(selector)}
        move = {"type": "pointerMove", "duration": 0, "origin": origin, "x": 0, "y": 0}
        self.send("POST", "/actions", {"actions": [{"type": "pointer", "id": "mouse",
                                                    "actions": [move]}]})  # fmt: skip

    def text(self, selector: str) -> str:
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def wait(self, script: str, *arguments: Any) -> Any:
        """What JavaScript returns, once that is true."""
        return until(lambda: self.run(f"return {script}", *arguments), script)

    def resize(self, width: int, height: int) -> None:
        """The size of the page itself: a window does not become narrower than 500 pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
        command = {"cmd": "Emulation.setDeviceMetricsOverride", "params": size}
        self.send("POST", "/goog/cdp/execute", command)

    def console(self) -> list[str]:
        """What pages have complained about since this was asked last."""
        entries = self.send("POST", "/se/log", {"type": "browser"})
        return [e["message"] for e in entries if e["level"] in ("SEVERE", "WARNING")]

    def screenshot(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode(self.send("GET", "/screenshot"))


def until(find: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """What `find` returns, once that is true."""
    end = time.monotonic() + seconds
    while True:
        found = find()
        if found:
            return found
        assert time.monotonic() < end, f"it did not come to this in {seconds} s: {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A fresh browser, ended afterwards; skips where there is none."""
    driver, chromium = shutil.which("chromedriver"), None
    for name in ("chromium", "chromium-browser", "google-chrome"):
        chromium = chromium or shutil.which(name)
    if driver is None or chromium is None:
        pytest.skip("no browser: chromedriver and Chromium are not both installed")
    folder = tempfile.mkdtemp()
    process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        lines = iter(process.stdout.readline, "")
        port = next(
            filter(None, (re.search(r"successfully on port (\d+)", line) for line in lines))
        )[1]
        options = {"binary": chromium, "args": [*FLAGS, f"--user-data-dir={folder}"]}
        session = Browser(f"http://127.0.0.1:{port}", options)
        try:
            yield session
        finally:
            session.send("DELETE", "")
    finally:
        process.terminate()
        process.wait(PATIENCE)
        process.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)  # the browser may still be closing its files
