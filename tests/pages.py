"""What the tests ask of pages, read from the HTML alone. Not a test module."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

OUTWARD_LINKS = ("https://doi.org/", "https://github.com/", "https://docs.astral.sh/")
"""Where a link that a reader clicks may lead; nothing is ever loaded from there."""


class Page(HTMLParser):
    """links: of anchors; loaded: what a browser asks for by itself; ids; images without alt text; tables without a head."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.silent_images = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "a":
            self.links.append(given.get("href", ""))
        self.loaded += [given["src"]] if "src" in given else []
        self.loaded += [given["href"]] if tag == "link" else []
        self.silent_images += tag == "img" and not given.get("alt", "").strip()


def faults(folder: Path) -> list[str]:
    """Every link that leads nowhere, address outside the folder's tree that is loaded, doubled id and silent image."""
    found = []
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    for path, page in pages.items():
        place = path.relative_to(folder)
        found += [
            f"{place}: loads {address}" for address in page.loaded if urlsplit(address).scheme not in ("", "data")
        ]
        found += [f"{place}: id {each} twice" for each in set(page.ids) if page.ids.count(each) > 1]
        found += [f"{place}: {page.silent_images} images without alt text"] * bool(page.silent_images)
        for address in [*page.links, *page.loaded]:
            parts = urlsplit(address)
            if parts.scheme == "data" or address.startswith(OUTWARD_LINKS):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = target.is_file() and not parts.scheme and not parts.netloc
            anchor = parts.fragment and target in pages and "explorer" not in target.name
            if not there or (anchor and parts.fragment not in pages[target].ids):
                found.append(f"{place}: {address} leads nowhere")
    for path in [*folder.rglob("*.css"), *folder.rglob("*.js")]:
        if re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest|sendBeacon", path.read_text(encoding="utf-8")):
            found.append(f"{path.name}: asks for something")
    return found
