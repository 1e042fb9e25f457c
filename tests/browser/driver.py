"""A real browser for tests: Debian's chromium with its chromedriver, driven by selenium. Nothing is downloaded.

`start()` gives selenium's own driver. `Browser` wraps one for async tests: each step runs in a thread, so that the servers
in the test's loop can respond.

Where there is no chromium the tests are skipped and say so; with CI_NEEDS_BROWSER=1 in the environment they fail instead.
"""

import asyncio
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

NEEDED = "CI_NEEDS_BROWSER"
PHONE, DESK = (360, 740), (1280, 800)
"""Screens: width and height in CSS pixels."""

_FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars"
).split()
_PATIENCE = 10.0
T = TypeVar("T")


def missing() -> str | None:
    """What is missing for a browser; None where nothing is."""
    lacking = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return (
        f"no {' and no '.join(lacking)} on this machine: apt-get install chromium chromium-driver" if lacking else None
    )


def skip_or_fail(reason: str) -> None:
    """Skip the test; fail where the environment says that what it needs must be there."""
    if os.environ.get(NEEDED):
        pytest.fail(f"{reason} ({NEEDED} is set)", pytrace=False)
    pytest.skip(reason)


def start(profile: Path) -> webdriver.Chrome:
    """A browser of its own, with an empty profile in this folder. End it with `quit()`."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # With a path selenium looks for no driver, here or elsewhere.
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


class Browser:
    """A browser for async tests. Texts are what a person reads on the page."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self.screen = DESK
        """What `look` set."""

    async def do(self, step: Callable[..., T], *args: Any) -> T:
        """One step with selenium's driver, in a thread."""
        return await asyncio.to_thread(step, *args)

    async def cdp(self, command: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        return await self.do(self.driver.execute_cdp_cmd, command, parameters)

    async def fresh(self) -> None:
        """As after its start: an empty page, no cookies, no log, its own screen."""
        await self.open("about:blank")
        await self.cdp("Network.clearBrowserCookies")
        await self.cdp("Emulation.clearDeviceMetricsOverride")
        await self.cdp("Emulation.setEmulatedMedia", features=[])
        await self.cdp("Emulation.setUserAgentOverride", userAgent="")
        await self.cdp("Emulation.setScriptExecutionDisabled", value=False)
        await self.do(self.driver.get_log, "browser")

    async def look(self, screen: tuple[int, int], *, dark: bool = False) -> None:
        """Have a screen of this size, and a taste for light or dark."""
        width, height = self.screen = screen
        phone = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < DESK[0]}
        await self.cdp("Emulation.setDeviceMetricsOverride", **phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.cdp("Emulation.setEmulatedMedia", features=[scheme])

    async def speak(self, language: str) -> None:
        """Prefer this language."""
        agent = await self.script("return navigator.userAgent")
        await self.cdp("Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage=language)

    async def open(self, url: str) -> None:
        """Go to an address and wait until its page is loaded."""
        await self.do(self.driver.get, url)

    async def press(self, text: str) -> None:
        """Click the button or link whose first line is this text, and wait for the next page."""
        await self.leave(lambda: self._named(text).click())

    async def click(self, text: str) -> None:
        """Click the button with this text, which leaves the page where it is."""
        await self.do(lambda: self._named(text).click())

    async def fill(self, label: str, text: str) -> None:
        """Type a text into the field with this label."""
        label_xpath = f"//label[span[text()='{label}']]//input"
        await self.do(lambda: self.driver.find_element(By.XPATH, label_xpath).clear())
        await self.do(lambda: self.driver.find_element(By.XPATH, label_xpath).send_keys(text))

    async def leave(self, step: Callable[..., Any], *args: Any) -> None:
        """Do what leads to another page, and wait until that is loaded: a click may be over before it has begun."""
        await self.script("window.leaving = true")
        await self.do(step, *args)
        await self.until("return !window.leaving && document.readyState === 'complete'")

    async def keys(self, *keys: str) -> None:
        """Press keys on whatever has the focus."""
        for key in keys:
            await self.do(lambda key=key: self.driver.switch_to.active_element.send_keys(key))

    async def enter(self) -> None:
        """Press Enter on whatever has the focus, and wait for the page that comes of it."""
        await self.leave(lambda: self.driver.switch_to.active_element.send_keys(Keys.ENTER))

    async def tab_to(self, text: str, most: int = 30) -> list[str]:
        """Press Tab until the focus is on what has this text; the texts on the way, this one last."""
        passed: list[str] = []
        while len(passed) < most:
            await self.keys(Keys.TAB)
            passed.append(await self.script(_FOCUSED))
            if passed[-1] == text:
                return passed
        pytest.fail(f"Tab never came to {text!r}, but to {passed}")

    async def script(self, source: str, *args: Any) -> Any:
        """The value of a script's `return`."""
        return await self.do(self.driver.execute_script, source, *args)

    async def until(self, source: str, *args: Any) -> Any:
        """Wait until a script returns something that is true."""
        wait = WebDriverWait(self.driver, _PATIENCE, poll_frequency=0.05)
        return await self.do(wait.until, lambda driver: driver.execute_script(source, *args), source)

    async def url(self) -> str:
        """Where it is."""
        return await self.script("return location.href")

    async def text(self) -> str:
        """What can be read on the page."""
        return await self.script("return document.body.innerText")

    async def scrolls_aside(self) -> bool:
        """True where the page is wider than the screen."""
        wide: int = await self.script("return document.documentElement.scrollWidth")
        return wide > self.screen[0]

    async def complaints(self) -> list[str]:
        """What the browser's console says since the last time, but for the status of a page that is not 200."""
        entries = await self.do(self.driver.get_log, "browser")
        known = re.compile(r"/eu/hpp/payments/\S* - Failed to load resource: .* status of (404|410) ")
        return [entry["message"] for entry in entries if not known.search(entry["message"])]

    def _named(self, text: str) -> Any:
        found = [
            element
            for element in self.driver.find_elements(By.CSS_SELECTOR, "button, a, summary")
            if element.is_displayed() and element.text.partition("\n")[0] == text
        ]
        assert len(found) == 1, f"{len(found)} things to press are called {text!r}"
        return found[0]


_FOCUSED = """
const on = document.activeElement;
return on === document.body ? "" : (on.innerText || on.ariaLabel || on.labels?.[0]?.innerText || on.id).trim().split("\\n")[0];
"""
