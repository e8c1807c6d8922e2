"""Project pages as an index has them, written again as static files: every link, to this server instead of that one.

Made without any of airgap's own code: that is what is measured.
"""

from __future__ import annotations

import hashlib
import html
import json
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit


class Links(HTMLParser):
    """The attributes of every link on a page, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a" and dict(attrs).get("href"):
            self.found.append(dict(attrs))


def write_pages(root: Path, project: str, url: str, page: str) -> dict[str, str]:
    """Write the HTML and the JSON page of *project*, which is at *url*; return the URLs of its files by their new path.

    The HTML page says nothing of PEP 658; the JSON page promises metadata of every wheel, until
    :func:`promise_metadata` knows better.
    """
    links, files, origins = [], [], {}
    for link in Links(page).found:
        origin, fragment = urldefrag(urljoin(url, str(link["href"])))
        path = urlsplit(origin).path
        filename = unquote(path.rpartition("/")[2])
        origins[unquote(path)] = origin
        kept = {key: link[key] or "" for key in ("data-requires-python", "data-yanked") if key in link}
        attributes = "".join(f' {key}="{html.escape(value)}"' for key, value in kept.items())
        links.append(f'<a href="{html.escape(path)}#{fragment}"{attributes}>{html.escape(filename)}</a><br/>\n')
        algorithm, _, digest = fragment.partition("=")
        file: dict[str, object] = {"filename": filename, "url": path, "hashes": {algorithm: digest} if digest else {}}
        file["requires-python"] = link.get("data-requires-python")
        file["yanked"] = "data-yanked" in kept and (kept["data-yanked"] or True)
        if uploaded := link.get("data-upload-time"):
            file["upload-time"] = uploaded
        if filename.endswith(".whl"):
            file["core-metadata"] = True
        files.append(file)
    head = (
        f"<!DOCTYPE html>\n<html><head><title>Links for {project}</title></head><body>\n<h1>Links for {project}</h1>\n"
    )
    _write(root / "html" / "simple" / project / "index.html", f"{head}{''.join(links)}</body></html>\n")
    document = {"meta": {"api-version": "1.0"}, "name": project, "files": files}
    _write(root / "json" / "simple" / project / "index.json", json.dumps(document))
    return origins


def promise_metadata(root: Path) -> None:
    """Have every JSON page promise the metadata files that are there (PEP 658), with their digests, and no others."""
    for page in root.glob("json/simple/*/index.json"):
        document = json.loads(page.read_text("utf-8"))
        for file in document["files"]:
            metadata = root / f"{unquote(file['url'])}.metadata".lstrip("/")
            file.pop("core-metadata", None)
            if metadata.is_file():
                file["core-metadata"] = {"sha256": hashlib.sha256(metadata.read_bytes()).hexdigest()}
        _write(page, json.dumps(document))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
