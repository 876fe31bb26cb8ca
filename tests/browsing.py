"""Chromium for tests: where it is, and a page that writes down everything that goes wrong on it."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
#: In CI, a browser that is absent is a failure.
NEEDED = os.environ.get("WEIGHTATLAS_BROWSER") == "needed"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@contextmanager
def launched():
    """A browser; without Chromium a skip, or a failure where it is needed."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        _absent(f"needs playwright: {error}")
    if CHROMIUM is None:
        _absent("needs Chromium: apt-get install chromium")
    with sync_playwright() as p:
        opened = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


def _absent(words):
    if NEEDED:
        pytest.fail(f"{words} (WEIGHTATLAS_BROWSER=needed)", pytrace=False)
    pytest.skip(words)


class Visit:
    """A page of one site; everything else it asks for is blocked.

    Attributes:
        page: of Playwright.
        wrong: console messages, errors of scripts, requests that failed, were answered by an error, or went elsewhere.
    """

    def __init__(self, browser, origin, width=1280, scheme="light", height=900, **more):
        self.origin, self.wrong = origin, []
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True, **more
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        # what is of the site is let through by the browser's driver; a call of Python for each request takes long
        self.context.route(re.compile(rf"^(?!{re.escape(origin)}/|data:|blob:)"), self._elsewhere)
        self.page.on("console", lambda m: m.type in ("error", "warning") and self.wrong.append(f"{m.type}: {m.text}"))
        self.page.on("pageerror", lambda e: self.wrong.append(f"error: {e}"))
        self.page.on("requestfailed", self._failed)
        self.page.on("response", lambda r: r.status >= 400 and self.wrong.append(f"{r.status} {r.url}"))

    def _elsewhere(self, route):
        self.wrong.append(f"went elsewhere: {route.request.url}")
        route.abort()

    def _failed(self, request):
        if request.failure != "net::ERR_ABORTED":  # what a page that is left no longer needs
            self.wrong.append(f"failed: {request.url} {request.failure}")

    def go(self, query=""):
        """Opens an address of the site and waits until it is drawn."""
        self.page.goto(f"{self.origin}/{query}")
        return self.drawn()

    def drawn(self):
        self.page.wait_for_selector("#main:not([aria-busy]) h1")
        return self.page

    def close(self):
        self.context.close()


def sideways(page):
    """Pixels by which the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def beyond(page):
    """Words and pictures that reach over an edge of the window and cannot be scrolled to in a box of their own."""
    return page.evaluate(
        """() => [...document.querySelectorAll('#top *, #main *')].filter(e => {
             const b = e.getBoundingClientRect();
             if (!b.width || !b.height || !e.checkVisibility() || e.closest('.unseen')) return false;
             for (let p = e.parentElement; p; p = p.parentElement)
               if (['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(p).overflowX)) return false;
             return b.right > document.documentElement.clientWidth + 1 || b.left < -1;
           }).map(e => e.outerHTML.slice(0, 140))"""
    )


def unnamed(page):
    """Pictures without a text alternative, and links and buttons without a name."""
    return page.evaluate(
        """() => [...document.querySelectorAll('img, canvas, [role=img], a, button, input, select, summary')].filter(e => {
             if (e.closest('[aria-hidden=true], [hidden]')) return false;
             if (e.matches('img')) return !e.hasAttribute('alt');
             if (e.matches('canvas, [role=img]')) return !e.getAttribute('aria-label');
             const words = e.textContent.trim() || e.getAttribute('aria-label') || e.title
               || [...e.querySelectorAll('img[alt], [aria-label]')].map(x => x.alt || x.getAttribute('aria-label')).join('')
               || e.labels?.[0]?.textContent;
             return !words;
           }).map(e => e.outerHTML.slice(0, 160))"""
    )


def inaccessible(page):
    """What axe-core finds against WCAG 2.2 A and AA and its best practices: rule, impact, and elements."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{v['id']} ({v['impact']}): {[n['html'][:160] for n in v['nodes'][:4]]}" for v in found]


def looked_at(page):
    """Looks whether a page has one heading, room for all that is on it, names for what can be used, and ids of one each."""
    assert page.locator("h1").count() == 1
    assert sideways(page) <= 0
    assert beyond(page) == []
    assert unnamed(page) == []
    assert page.evaluate(
        "[...document.querySelectorAll('[id]')].length === new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size"
    )
