"""A headless Chromium over its debugging pipe: no driver to install, and what it shows is what a reader meets."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

#: the browser reads commands from descriptor 3 and answers on 4
_LAUNCH = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


class Browser:
    """One browser with one tab. `requests` are the addresses it asked for, `said` its errors and console messages."""

    def __init__(self, profile: Path) -> None:
        assert BROWSER is not None
        # above 9, so that the launcher's dup2 to 3 and 4 overwrites neither
        theirs_in, ours_out = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in os.pipe())
        ours_in, theirs_out = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in os.pipe())
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-c", _LAUNCH, str(theirs_in), str(theirs_out)),
                *(BROWSER, *_FLAGS, f"--user-data-dir={profile}", "about:blank"),
            ],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out, self._rest, self._last = ours_in, ours_out, b"", 0
        self.said: list[str] = []
        self.requests: list[str] = []
        self._loaded = False
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(OSError, AssertionError):
            self._send("Browser.close")
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
        os.close(self._in)
        os.close(self._out)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """A command to the tab, and its answer."""
        return self._send(method, session=self._session, **params)

    def _send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            heard = self._read()
            if heard.get("id") == self._last:
                assert "error" not in heard, (method, heard["error"])
                return heard["result"]

    def _read(self, seconds: float = 60.0) -> dict[str, Any]:
        until = time.monotonic() + seconds
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(until - time.monotonic(), 0))
            assert ready, "the browser does not answer"
            chunk = os.read(self._in, 1 << 20)
            assert chunk, "the browser is gone"
            self._rest += chunk
        text, self._rest = self._rest.split(b"\0", 1)
        heard = json.loads(text)
        self._note(heard.get("method", ""), heard.get("params", {}))
        return heard

    def _note(self, event: str, about: dict[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Runtime.exceptionThrown":
            self.said.append(json.dumps(about["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled":
            self.said.append(json.dumps(about["args"]))
        elif event == "Log.entryAdded":
            self.said.append(about["entry"]["text"])
        elif event == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])

    def open(self, page: Path, fragment: str = "") -> None:
        """Load a page anew and wait until it has."""
        self.said.clear()
        self.requests.clear()
        for address in ("about:blank", page.as_uri() + fragment):
            # by way of a blank page: to go to another fragment of the same page would not load it anew
            self._loaded = False
            self.ask("Page.navigate", url=address)
            while not self._loaded:
                self._read()

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page; a promise is awaited."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def look(self, *, width: int = 1280, height: int = 900, dark: bool = False, media: str = "") -> None:
        """Set the size of the screen (a phone under 600 pixels), the colour scheme and the medium."""
        phone = width < 600
        scale = 2 if phone else 1
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def press(self, selector: str, key: str, code: int, times: int = 1) -> None:
        """Focus an element and press a key, as a reader without a mouse does."""
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        for _ in range(times):
            for kind in ("rawKeyDown", "keyUp"):
                self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def picture(self, out: Path, selector: str = "") -> Path:
        """A screenshot of the whole page, or of one element, for a person to look at."""
        box = self.run(
            "(s => { const b = (s ? document.querySelector(s) : document.documentElement).getBoundingClientRect();"
            "return { x: b.x + scrollX, y: b.y + scrollY, width: b.width, height: b.height, scale: 1 }; })"
            f"({json.dumps(selector)})"
        )
        data = self.ask("Page.captureScreenshot", format="png", clip=box, captureBeyondViewport=True)["data"]
        out.write_bytes(base64.b64decode(data))
        return out

    def print(self) -> bytes:
        """The page as PDF, as a printer gets it."""
        return base64.b64decode(self.ask("Page.printToPDF", printBackground=False)["data"])
