"""Index pages of web servers.

fsspec has a reader of these too; it takes links as they stand in the page, without undoing their
HTML and percent encoding, and so loses names.
"""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

INDEX_BYTES_MAX = 64 << 20
"""A larger answer is no index page."""


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += (value for name, value in attrs if name == "href" and value)


def entries(url: str, page: bytes) -> Iterator[dict[str, Any]]:
    """What a page links to that lies directly below it, as fsspec's ``ls`` has it, without sizes.

    :param url: of the page, with a slash at its end.
    """
    links = _Links()
    links.feed(page.decode("utf-8", "replace"))
    base = urlsplit(url)
    seen = set()
    for link in links.found:
        place = urlsplit(urljoin(url, link))
        inside = place.path.startswith(base.path)
        if (place.scheme, place.hostname) != (base.scheme, base.hostname) or not inside:
            continue
        last = place.path[len(base.path) :]
        name = last.rstrip("/")
        is_sorting = bool(place.query)  # the heads of the columns of a page
        if not name or "/" in name or is_sorting or "/" in unquote(name) or last in seen:
            continue
        seen.add(last)
        kind = "directory" if last.endswith("/") else "file"
        yield {"name": f"{url}{last}", "type": kind, "size": None}
