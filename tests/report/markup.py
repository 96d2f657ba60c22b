"""What a page is made of, by the parser of the standard library, and whether a browser could take it amiss."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

_VOID = {"meta", "link", "br", "hr", "img", "input"}
_LOADS = {"src", "href", "srcset", "data", "poster", "action", "formaction", "background", "xlink:href"}
_KNOWN = """
    html head meta title style body a header main nav section article figure figcaption table caption thead tbody tr th
    td p h1 h2 h3 h4 ul li dl dt dd div span strong mark details summary
    svg desc line rect circle polygon polyline text
"""


class Page(HTMLParser):
    """Collects text and elements; `faults` is empty if every element is known, closed in turn, and loads nothing."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.faults: list[str] = []
        self._open: list[str] = []
        self._known = set(_KNOWN.split())
        self.feed(html)
        self.close()
        self.faults += [f"<{tag}> is not closed" for tag in self._open]
        self._check_headings()
        self._check_references()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self._known:
            self.faults.append(f"<{tag}> does not belong here")
        for name, value in attrs:
            if name.startswith("on"):
                self.faults.append(f"<{tag} {name}> is a script")
            if name in _LOADS and not (value or "").startswith("#"):
                self.faults.append(f"<{tag} {name}={value}> leads out")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.faults.append(f"</{tag}> closes {self._open[-1:] or 'nothing'}")
        else:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.text += data
        elif re.search(r"url\(|@import", data):
            self.faults.append("the style sheet loads something")

    def with_tag(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def _check_headings(self) -> None:
        """One h1, and none deeper by more than a level than the one before it."""
        levels = [int(tag[1]) for tag, _ in self.elements if re.fullmatch("h[1-6]", tag)]
        deeper = [(one, other) for one, other in pairwise(levels) if other > one + 1]
        self.faults += [f"h{other} follows h{one}" for one, other in deeper]
        if levels.count(1) != 1:
            self.faults.append(f"{levels.count(1)} h1")

    def _check_references(self) -> None:
        ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        self.faults += [f"the id {each} stands twice" for each in set(ids) if ids.count(each) > 1]
        for _, attributes in self.elements:
            named = (attributes.get("aria-labelledby") or "").split()
            linked = [(attributes.get("href") or "").removeprefix("#")] if "href" in attributes else []
            self.faults += [f"nothing has the id {each}" for each in [*named, *linked] if each not in ids]
