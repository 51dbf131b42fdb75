"""Debian's Chromium without a window, driven by the WebDriver protocol of its chromedriver."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = "there is no chromium with chromedriver: apt-get install chromium chromium-driver"
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--no-first-run", "--disable-dev-shm-usage", "--window-size=1400,1000",
)  # fmt: skip


class Browser:
    """One window."""

    def __init__(self, address: str, dark: bool, script: bool):
        options = {
            "binary": CHROMIUM,
            "args": [*_FLAGS, *(["--force-dark-mode"] if dark else [])],
            "prefs": {} if script else {"profile.managed_default_content_settings.javascript": 2},
        }
        wanted = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        self._session = f"{address}/session"
        opened = self._send("POST", "", {"capabilities": {"alwaysMatch": wanted}})
        self._session += f"/{opened['sessionId']}"

    def _send(self, method: str, path: str, content: Any = None) -> Any:
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(f"{self._session}{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read())["value"]

    def open(self, page: Path) -> None:
        self._send("POST", "/url", {"url": page.absolute().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that the body of a function of JavaScript returns."""
        return self._send("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def find(self, selector: str) -> str:
        (node,) = self._send(
            "POST", "/element", {"using": "css selector", "value": selector}
        ).values()
        return node

    def click(self, selector: str) -> None:
        self._send("POST", f"/element/{self.find(selector)}/click", {})

    def type(self, selector: str, keys: str) -> None:
        self._send("POST", f"/element/{self.find(selector)}/value", {"text": keys})

    def console(self) -> list[str]:
        return [entry["message"] for entry in self._send("POST", "/se/log", {"type": "browser"})]

    def requests(self) -> list[str]:
        """The addresses that were asked for, other than those of data in the page itself."""
        found = []
        for entry in self._send("POST", "/se/log", {"type": "performance"}):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(message["params"]["request"]["url"])
        return [address for address in found if not address.startswith("data:")]

    def picture(self, file: Path, height: int = 1000) -> None:
        self._send("POST", "/window/rect", {"width": 1400, "height": height})
        file.write_bytes(base64.b64decode(self._send("GET", "/screenshot")))

    def close(self) -> None:
        self._send("DELETE", "")


@contextmanager
def browser(*, dark: bool = False, script: bool = True) -> Iterator[Browser]:
    assert DRIVER is not None
    driver = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        assert driver.stdout is not None
        line = next(line for line in driver.stdout if "started successfully on port" in line)
        window = Browser(f"http://127.0.0.1:{line.split()[-1].rstrip('.')}", dark, script)
        try:
            yield window
        finally:
            window.close()
    finally:
        driver.terminate()
        driver.wait()
        driver.stdout.close()
