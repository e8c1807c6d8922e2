"""The pages for people: HTML without scripts, for phones, darkness and keyboards too. Pure but for rendering.

Every text goes through :func:`_e`; a description is rendered by ``readme_renderer``, which lets nothing active through,
or shown as it is where that is not installed.
"""

from __future__ import annotations

import html
import importlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from email.parser import HeaderParser
from urllib.parse import quote

from packaging.version import InvalidVersion, Version

from mirror.config.served import Served
from mirror.filenames import split_filename
from mirror.index.simple import PageEntry
from mirror.serve.search import Hit

#: Nothing may be loaded but our own style; nothing may run.
HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}
STYLE_PATH = "/browse/-/style.css"
MOST_PROJECTS = 500
_MOST_FILES = 1000
#: Characters of a description; rendering much longer ones takes seconds.
_MOST_RENDERED = 256 * 1024

STYLE = """\
:root { color-scheme: light dark; --line: #ccc; --soft: #f4f4f4; --dim: #595959; --link: #0b57b0; }
@media (prefers-color-scheme: dark) { :root { --line: #444; --soft: #222; --dim: #aaa; --link: #8ab8ff; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; }
a { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
header, footer { border: 0 solid var(--line); display: flex; flex-wrap: wrap; gap: 0.5rem 1rem; }
header { border-bottom-width: 1px; padding-bottom: 0.5rem; }
h1 { font-size: 1.6rem; overflow-wrap: anywhere; } h2 { font-size: 1.2rem; margin-top: 2rem; }
ul.plain { list-style: none; padding: 0; }
ul.plain > li { border-bottom: 1px solid var(--line); padding: 0.5rem 0; overflow-wrap: anywhere; }
.dim { color: var(--dim); font-size: 0.9rem; }
.mark { border: 1px solid var(--line); border-radius: 0.3rem; font-size: 0.8rem; padding: 0 0.4rem; }
code, pre { background: var(--soft); border-radius: 0.3rem; font-family: ui-monospace, monospace; font-size: 0.9rem; }
pre { overflow-x: auto; padding: 0.7rem; } pre.copy { user-select: all; }
form { display: flex; gap: 0.5rem; margin: 1rem 0; } input { flex: 1; font: inherit; min-width: 0; padding: 0.4rem; }
button { font: inherit; padding: 0.4rem 1rem; }
.text { border-top: 1px solid var(--line); margin-top: 2rem; overflow-wrap: anywhere; } .text table { display: block; }
.text img { max-width: 100%; } .text table { overflow-x: auto; }
"""


def front(repositories: Iterable[Served], base: str) -> str:
    """The list of repositories."""
    items = []
    for served in repositories:
        what = {"proxy": f"of {served.remote}", "group": f"of {', '.join(served.members)}"}.get(served.kind, "")
        url = f"{base}/repository/{served.name}/simple/"
        items.append(
            f'<li><a href="{_browse(served.name)}"><strong>{_e(served.name)}</strong></a> '
            f'<span class="mark">{_e(served.kind)}</span> <span class="dim">{_e(what)}</span><br>'
            f'<a class="dim" href="{_e(url)}">{_e(url)}</a></li>'
        )
    return _page("Repositories", f'<h1>Repositories</h1><ul class="plain">{"".join(items)}</ul>')


def repository(
    served: Served, base: str, projects: Sequence[str], count: int, question: str, hits: Sequence[Hit]
) -> str:
    """A repository: how to use it, and the first of its *count* projects or what was found for *question*."""
    if question:
        rows = [_project_line(served.name, hit.name, f"{hit.version} {hit.summary}") for hit in hits]
        heading = f"Found for “{_e(question)}”"
    else:
        rows = [_project_line(served.name, name, "") for name in projects]
        heading = f"Projects ({count})"
        if count > len(projects):
            rows.append(f'<li class="dim">and {count - len(projects)} more: search for them</li>')
    note = '<p class="dim">What was fetched through a proxy is listed here.</p>' if served.kind != "hosted" else ""
    listing = f'<ul class="plain">{"".join(rows)}</ul>' if rows else "<p>Nothing.</p>"
    return _page(
        served.name,
        f'<h1>{_e(served.name)} <span class="mark">{_e(served.kind)}</span></h1>'
        f'<form action="{_browse(served.name)}" role="search"><input type="search" name="q" value="{_e(question)}" '
        f'aria-label="Search projects" placeholder="Search projects"><button>Search</button></form>'
        f"<h2>{heading}</h2>{note}{listing}{_snippets(served, base)}",
        served.name,
    )


def project(repository: str, name: str, entries: Sequence[PageEntry], description: str) -> str:
    """A project: its releases, newest first, with their files, and the newest one's *description* (HTML)."""
    releases: dict[str, list[PageEntry]] = {}
    for entry in entries:
        parts = split_filename(entry.filename)
        releases.setdefault(parts.version if parts else "", []).append(entry)
    shown, sections = 0, []
    for version in sorted(releases, key=_order, reverse=True):
        if shown >= _MOST_FILES:
            sections.append(f'<p class="dim">{len(entries) - shown} older files are in the index.</p>')
            break
        shown += len(releases[version])
        files = "".join(_file_line(repository, entry) for entry in releases[version])
        sections.append(f'<h2>{_e(version)}</h2><ul class="plain">{files}</ul>')
    text = f'<div class="text">{description}</div>' if description else ""
    return _page(name, f"<h1>{_e(name)}</h1>{''.join(sections)}{text}", repository)


def described(raw: bytes) -> str:
    """The description in core metadata as HTML that holds nothing active; empty where there is none."""
    message = HeaderParser().parsestr(raw.decode("utf-8", "replace"))
    text = str(message.get_payload() or message.get("Description", "")).strip()
    if not text or text == "UNKNOWN":
        return ""
    kind = str(message.get("Description-Content-Type", "text/x-rst")).partition(";")[0].strip().lower()
    rendered = (
        None
        if kind == "text/plain" or len(text) > _MOST_RENDERED
        else _rendered(text, markdown=kind == "text/markdown")
    )
    return f"<pre>{_e(text)}</pre>" if rendered is None else rendered


def _rendered(text: str, *, markdown: bool) -> str | None:
    """Cleaned HTML, or None where the text is not well-formed or nothing is installed that renders it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the renderer for markdown complains where it is incomplete
        try:
            renderer = importlib.import_module(f"readme_renderer.{'markdown' if markdown else 'rst'}")
        except ImportError:
            return None
        found = renderer.render(text)
        return found if isinstance(found, str) else None


def _project_line(repository: str, name: str, more: str) -> str:
    return f'<li><a href="{_browse(repository, name)}">{_e(name)}</a> <span class="dim">{_e(more)}</span></li>'


def _file_line(repository: str, entry: PageEntry) -> str:
    url = f"/repository/{quote(repository)}/{entry.url.removeprefix('../../')}"
    digest = entry.hashes.sha256
    facts = [
        _size(entry.size) if entry.size is not None else "",
        (entry.upload_time or "")[:10],
        f"Python {entry.requires_python}" if entry.requires_python else "",
    ]
    yanked = f' <span class="mark">yanked{": " if entry.yanked else ""}{_e(entry.yanked or "")}</span>'
    return (
        f'<li><a href="{_e(url)}">{_e(entry.filename)}</a>{yanked if entry.yanked is not None else ""}'
        f'<br><span class="dim">{_e(", ".join(fact for fact in facts if fact))}</span>'
        + (f'<br><code class="dim">sha256 {_e(digest)}</code>' if digest else "")
        + "</li>"
    )


def _snippets(served: Served, base: str) -> str:
    index, upload = f"{base}/repository/{served.name}/simple/", f"{base}/repository/{served.name}/"
    texts = [
        ("pip: pip.conf or pip.ini", f"[global]\nindex-url = {index}\n"),
        ("uv: uv.toml", f'[[index]]\nname = "{served.name}"\nurl = "{index}"\ndefault = true\n'),
    ]
    if served.kind == "hosted" or served.deploy_to:
        pypirc = f"[distutils]\nindex-servers = {served.name}\n\n[{served.name}]\nrepository = {upload}\nusername = …\n"
        texts.append(("twine: .pypirc", pypirc))
    blocks = "".join(f'<h3>{_e(title)}</h3><pre class="copy" tabindex="0">{_e(text)}</pre>' for title, text in texts)
    return f"<h2>Use it</h2>{blocks}"


def _page(title: str, body: str, repository: str = "") -> str:
    here = f' <a href="{_browse(repository)}">{_e(repository)}</a>' if repository else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{_e(title)} · airgap</title><link rel="stylesheet" href="{STYLE_PATH}"></head>'
        f'<body><header><a href="/">airgap</a>{here}</header><main>{body}</main></body></html>\n'
    )


def _browse(*parts: str) -> str:
    return _e("/browse/" + "".join(f"{quote(part, safe='')}/" for part in parts))


def order_of(filename: str) -> Version:
    """The version that a file name says, for sorting; what has none comes first."""
    parts = split_filename(filename)
    return _order(parts.version if parts else "")


def _order(version: str) -> Version:
    try:
        return Version(version)
    except InvalidVersion:
        return Version("0.dev0")


def _size(size: int) -> str:
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def _e(text: str) -> str:
    return html.escape(text, quote=True)
