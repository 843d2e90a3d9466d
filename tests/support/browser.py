"""A real Chromium without a window, driven over chromedriver's own protocol (WebDriver), without a client library."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""Key under which WebDriver names an element."""

KEYS = {"ArrowRight": "\ue014", "ArrowLeft": "\ue012", "ArrowUp": "\ue013", "ArrowDown": "\ue015", "Home": "\ue011"}


def missing() -> str:
    """Why there is no browser to test with; empty when there is one."""
    if not any(shutil.which(name) for name in NAMES):
        return "no Chromium is installed (apt install chromium chromium-driver)"
    return "" if shutil.which("chromedriver") else "no chromedriver is installed (apt install chromium-driver)"


@dataclass(frozen=True)
class Browser:
    """One window of a session."""

    session: str

    def ask(self, method: str, path: str, value: dict[str, Any] | None = None) -> Any:
        """Send a command; the answer's value. An error of the browser's is raised with its text."""
        return _ask(method, f"{self.session}{path}", value)

    def open(self, path: Path) -> None:
        """Load a file, and wait until it is there."""
        self.ask("POST", "/url", {"url": path.resolve().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """Value that `script` returns in the page."""
        return self.ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def find(self, selector: str) -> str:
        """The first element of a CSS selector."""
        return self.ask("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector: str) -> None:
        """Click in the middle of an element, as a pointer does."""
        self.ask("POST", f"/element/{self.find(selector)}/click", {})

    def text(self, selector: str) -> str:
        """What is to be read in an element."""
        return self.ask("GET", f"/element/{self.find(selector)}/text")

    def press(self, key: str) -> None:
        """Press a key where the focus is."""
        actions = [{"type": kind, "value": KEYS.get(key, key)} for kind in ("keyDown", "keyUp")]
        self.ask("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def log(self, kind: str) -> list[dict[str, Any]]:
        """Entries of the log ``browser`` (the console) or ``performance`` (the network among them) since last asked."""
        return self.ask("POST", "/se/log", {"type": kind})

    def resize(self, width: int, height: int) -> None:
        """Give the window a size, in pixels."""
        self.ask("POST", "/window/rect", {"width": width, "height": height})

    def picture(self, path: Path) -> None:
        """Save what the window shows as PNG."""
        path.write_bytes(b64decode(self.ask("GET", "/screenshot")))


def _ask(method: str, address: str, value: dict[str, Any] | None = None) -> Any:
    body = None if value is None else json.dumps(value).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the driver is on this machine
    try:
        with opener.open(request, timeout=60) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise RuntimeError(json.load(error)["value"]["message"]) from error


@contextlib.contextmanager
def browser(width: int = 1280, height: int = 1000) -> Iterator[Browser]:
    """A Chromium of this test's own, ended afterwards."""
    program = next(found for name in NAMES if (found := shutil.which(name)))
    driver = subprocess.Popen([shutil.which("chromedriver"), "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        port = next(
            line.rsplit(" ", 1)[1].strip(".\n") for line in driver.stdout if "started successfully on port" in line
        )
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        options = {
            "browserName": "chrome",
            "goog:chromeOptions": {"binary": program, "args": [*arguments, f"--window-size={width},{height}"]},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        address = f"http://127.0.0.1:{port}/session"
        session = _ask("POST", address, {"capabilities": {"alwaysMatch": options}})["sessionId"]
        try:
            yield Browser(f"{address}/{session}")
        finally:
            _ask("DELETE", f"{address}/{session}")
    finally:
        driver.terminate()
        driver.wait(timeout=20)
        driver.stdout.close()
