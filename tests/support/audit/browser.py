# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Drive headless Chromium by the DevTools protocol over pipes, https://chromedevtools.github.io/devtools-protocol/."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_SECONDS = 60
#: Size of a desktop's window and of a telephone's, in CSS pixels.
DESKTOP, TELEPHONE = (1280, 900), (390, 844)


def find() -> str | None:
    """Return the path of Chromium, None if it is not installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a headless Chromium without network. Errors of the page are collected."""

    def __init__(self, program: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="certflow-browser-", ignore_cleanup_errors=True)
        into_child, self._write = os.pipe()
        from_child, child_write = os.pipe()
        command = [
            program,
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars"),
            *("--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-sync"),
            *("--disable-dev-shm-usage", "--font-render-hinting=none", f"--user-data-dir={self._folder.name}"),
            "about:blank",
        ]  # fmt: skip
        # Chromium reads commands from file descriptor 3 and writes answers to 4.
        shell = f'exec 3<&{into_child} 4>&{child_write}; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *command],
            pass_fds=(into_child, child_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(into_child)
        os.close(child_write)
        self._read: IO[bytes] = os.fdopen(from_child, "rb", buffering=0)
        self._rest = b""
        self._number = 0
        self._session = ""
        #: Messages of the console, exceptions, and violations of the policy.
        self.errors: list[str] = []
        self._events: list[dict[str, Any]] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._write)
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._read.close()
        self._folder.cleanup()

    def open(self, path: Path, fragment: str = "") -> None:
        """Load a file, and wait until it is complete."""
        self._call("Page.navigate", url="about:blank")
        self._wait("Page.loadEventFired")
        self.errors.clear()
        self._call("Page.navigate", url=path.resolve().as_uri() + fragment)
        self._wait("Page.loadEventFired")

    def show(self, size: tuple[int, int] = DESKTOP, *, scheme: str = "light", media: str = "screen") -> None:
        """Set the size of the window, the colour scheme and the medium."""
        width, height = size
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", media=media, features=features)

    def use_scripts(self, allowed: bool) -> None:
        self._call("Emulation.setScriptExecutionDisabled", value=not allowed)

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression as JSON has it. It may be a promise."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Press a key. code: its Windows virtual key code."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        common = {"key": key, "windowsVirtualKeyCode": code}
        self._call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self._call("Input.dispatchKeyEvent", type="keyUp", **common)

    def picture(self, *, whole_page: bool = False, height: int = 0) -> bytes:
        """Return a PNG of the window, of the whole page, or of the page down to this height."""
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        end = size["height"] if whole_page else height
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(end, size["height"]), "scale": 1}
        options = {"clip": clip, "captureBeyondViewport": True} if end else {}
        return base64.b64decode(self._call("Page.captureScreenshot", format="png", **options)["data"])

    def pdf(self) -> bytes:
        """Print the page."""
        return base64.b64decode(self._call("Page.printToPDF")["data"])

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _wait(self, event: str) -> None:
        while True:
            for number, known in enumerate(self._events):
                if known["method"] == event:
                    del self._events[: number + 1]
                    return
            self._note(self._next())

    def _note(self, event: dict[str, Any]) -> None:
        self._events.append(event)
        parameters = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(parameters["exceptionDetails"]))
        elif event["method"] == "Runtime.consoleAPICalled":
            self.errors.append(json.dumps(parameters["args"]))
        elif event["method"] == "Log.entryAdded":
            self.errors.append(parameters["entry"]["text"])

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + _SECONDS
        while b"\0" not in self._rest:
            if time.monotonic() > end:
                raise TimeoutError("Chromium does not answer")
            chunk = self._read.read(1 << 20)
            if not chunk:
                raise RuntimeError("Chromium has ended")
            self._rest += chunk
        line, _zero, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message
