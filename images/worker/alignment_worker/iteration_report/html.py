"""The page as one HTML file that needs nothing else: no network, no script."""

from __future__ import annotations

import re
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from alignment_worker.iteration_report.page import Page

_FOLDER = "iteration_report/templates"
_UNFIT = re.compile(
    # What no HTML file may hold, not even as a reference; and what turns the direction of the text that follows it.
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]"
    # What models read and people do not see: tags, in which whole sentences can be spelled, and signs without width.
    # A single one of the latter joins emoji and Persian letters, and parts words where they are written without spaces.
    "|[\U000e0000-\U000e0fff]+|[\u200b-\u200d\u2060-\u2064\ufeff]{2,}"
)


def html_of(page: Page) -> str:
    """Whatever the page says is escaped, drawings excepted."""
    return _template().render(page=page)


def _visible(text: object) -> object:
    """Every text that is filled in passes here."""
    if isinstance(text, Markup) or not isinstance(text, str):
        return text
    return _UNFIT.sub("\ufffd", text)


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("alignment_worker", _FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    return environment.get_template("page.html.jinja")
