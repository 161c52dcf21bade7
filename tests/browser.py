"""A real browser that tests drive: Chromium without a window, over the DevTools protocol.

Imported as ``browser`` (``tests`` is on pytest's path). It talks over a pair of pipes, which it has
as files 3 and 4, so nothing but the standard library and no free port is needed.
"""

import base64
import contextlib
import fcntl
import functools
import http.server
import json
import os
import select
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_PATIENCE = 60.0  # seconds
_CODES = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}  # keys without a text


class MovedError(AssertionError):
    """The page went elsewhere while it was asked."""


class Browser:
    """A page of a browser.

    ``faults`` are what its console has shown of errors: exceptions, files that did not come.

    Args:
        orders: File that takes messages.
        answers: File that gives them.
        folder: Where what it saves goes.
    """

    def __init__(self, orders: int, answers: int, folder: Path) -> None:
        self._orders, self._answers, self._read = orders, answers, b""
        self._number, self._session = 0, ""
        self.folder = folder
        self.faults: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        # Of the browser, whatever the page.
        self.call(
            "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder), whole=True
        )

    def call(self, method: str, *, whole: bool = False, **params: Any) -> dict[str, Any]:
        """Return what a method of the protocol answers."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session and not whole:
            message["sessionId"] = self._session
        os.write(self._orders, json.dumps(message).encode() + b"\0")
        while True:
            found = self._message()
            self.faults += _faults(found)
            if found.get("id") == self._number:
                if "navigated" in found.get("error", {}).get("message", ""):
                    raise MovedError(found)
                assert "error" not in found, found
                result: dict[str, Any] = found["result"]
                return result

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._answers], [], [], _PATIENCE)
            found = os.read(self._answers, 1 << 16) if ready else b""
            assert found, "the browser does not answer"
            self._read += found
        line, _, self._read = self._read.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def open(self, page: Path) -> None:
        """Show a file, and wait until it is there."""
        self.call("Page.navigate", url=page.as_uri())
        self.until("document.readyState === 'complete' && location.protocol === 'file:'")

    def visit(self, url: str) -> None:
        """Show an address, and wait until the page is there."""
        self.call("Page.navigate", url=url)
        self.until(f"document.readyState === 'complete' && location.href === {json.dumps(url)}")

    def sized(self, width: int, height: int, *, touch: bool = False) -> None:
        """Give the page a size in CSS pixels; with touch it is that of a phone."""
        size = {"width": width, "height": height, "deviceScaleFactor": 2 if touch else 1}
        self.call("Emulation.setDeviceMetricsOverride", **size, mobile=touch)
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)

    def picture(self, path: Path, kind: str = "png", *, whole: bool = True) -> None:
        """Write what the page looks like, all of it or what one sees at once."""
        box = "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
        width, height = self.value(box if whole else "[innerWidth, innerHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        found = self.call(
            "Page.captureScreenshot", format=kind, clip=clip, captureBeyondViewport=whole
        )
        path.write_bytes(base64.b64decode(found["data"]))

    def mouse(self, kind: str, x: float, y: float) -> None:
        """Move the mouse (``mouseMoved``), or press or release it, at a place of the window."""
        more = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def value(self, script: str) -> Any:
        """Return what an expression of the page is."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until an expression of the page is true."""
        end = time.monotonic() + _PATIENCE
        while not self._holds(script):
            assert time.monotonic() < end, script
            time.sleep(0.02)

    def _holds(self, script: str) -> bool:
        """Return whether an expression is true of a page that stays."""
        try:
            return bool(self.value(script))
        except MovedError:
            return False

    def click(self, selector: str) -> None:
        """Press the mouse in the middle of the first visible thing that is meant."""
        place = self.value(
            f"(function () {{ const all = Array.from(document.querySelectorAll({selector!r}));"
            "const one = all.find(function (each) { return each.offsetParent !== null; });"
            "one.scrollIntoView({block: 'nearest'}); const box = one.getBoundingClientRect();"
            "return [box.left + box.width / 2, box.top + Math.min(box.height / 2, 40)]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, *place)

    def press(self, key: str) -> None:
        """Press a key."""
        text, code = {"Enter": "\r"}.get(key, key), _CODES.get(key)
        for kind in ("keyDown", "keyUp"):
            more: dict[str, Any] = {} if code is None else {"windowsVirtualKeyCode": code}
            if kind == "keyDown" and code is None:
                more["text"] = text
            self.call("Input.dispatchKeyEvent", type=kind, key=key, **more)

    def saved(self, pattern: str) -> Path:
        """Return the file that a page saved, once it is whole."""
        end = time.monotonic() + _PATIENCE
        while not (found := list(self.folder.glob(pattern))):
            assert time.monotonic() < end, f"no {pattern} in {list(self.folder.iterdir())}"
            time.sleep(0.02)
        return found[0]


def _faults(message: dict[str, Any]) -> list[str]:
    """Return what an event of the browser says of errors."""
    method, params = message.get("method"), message.get("params", {})
    if method == "Runtime.exceptionThrown":
        details = params["exceptionDetails"]
        return [details.get("exception", {}).get("description", details["text"])]
    if method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
        return [" ".join(str(each.get("value", "")) for each in params["args"])]
    if method == "Log.entryAdded" and params["entry"]["level"] == "error":
        return [f"{params['entry']['text']} {params['entry'].get('url', '')}"]
    return []


class _Files(http.server.SimpleHTTPRequestHandler):
    """What ``python -m http.server`` serves, without a word."""

    def log_message(self, *words: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder to this machine, and give its address."""
    handler = functools.partial(_Files, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Give a browser whose profile and saved files lie in a folder; skip without Chromium."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip("no Chromium is installed")
    words = [program, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
    words += ["--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking"]
    words += [f"--user-data-dir={folder / 'profile'}"]
    (folder / "saved").mkdir()
    pipes = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (*os.pipe(), *os.pipe())]
    theirs_in, orders, answers, theirs_out = pipes
    silent = os.open(os.devnull, os.O_RDWR)
    moves = [(os.POSIX_SPAWN_DUP2, theirs_in, 3), (os.POSIX_SPAWN_DUP2, theirs_out, 4)]
    moves += [(os.POSIX_SPAWN_DUP2, silent, number) for number in (0, 1, 2)]
    process = os.posix_spawn(program, words, os.environ, file_actions=moves, setsid=True)
    for end in (theirs_in, theirs_out, silent):
        os.close(end)
    try:
        yield Browser(orders, answers, folder / "saved")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(orders)
        os.close(answers)
