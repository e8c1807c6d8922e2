"""``report.html``: the page that a reviewer reads before the bundle crosses the gap. Pure.

One file, no script, nothing loaded from anywhere, and a policy that forbids both; whatever comes from a package or an
index is escaped and never becomes a link.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

from mirror.bundle.manifest import BundledFile, BundledTarget
from mirror.bundle.sbom import read_license

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --warn: #b00020; }
@media (prefers-color-scheme: dark) { :root { --warn: #ff8a80; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem .3rem 0; text-align: left; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code { font: 12px ui-monospace, monospace; overflow-wrap: anywhere; }
ol { margin: .2rem 0; padding-left: 1.2rem; } summary { cursor: pointer; }
.warn { color: var(--warn); font-weight: 600; } .box { background: var(--soft); padding: .6rem 1rem; }
.note { opacity: .75; font-size: 13px; }
"""


_HEADING = "<h1>What this bundle carries</h1>"


def render_report(
    targets: Sequence[BundledTarget], files: Sequence[BundledFile], metadata: Mapping[str, bytes]
) -> Iterator[bytes]:
    """Yield the page; *metadata* is core metadata by file name, read for licences only."""
    head = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Bundle of {_count(len(_projects(files)), 'project')}</title>",
        f"<style>{_STYLE}</style></head><body>",
        _HEADING,
    ]
    end = [
        '<p class="note">The digests here are those of the manifest; <code>airgap verify</code> checks every byte.</p>',
        "</body></html>",
    ]
    lines = itertools.chain(
        head,
        _summary(targets, files),
        _attention(files),
        _targets(targets, files),
        _project_table(files, metadata),
        _file_table(files),
        end,
    )
    return (f"{line}\n".encode() for line in lines)


def report_of_delta(page: Iterator[bytes], files: Sequence[BundledFile]) -> Iterator[bytes]:
    """Yield *page*, the report of the whole set *files*, with what a delta of it carries at its head.

    The first piece of *page* has all of its head.
    """
    carried = [file for file in files if file.carried]
    size = human_size(sum(file.size for file in carried))
    before, _, rest = next(page).partition(_HEADING.encode())
    head = (
        f"<h1>What this delta carries</h1>\n"
        f'<p class="box">{len(carried)} of {len(files)} files, {size}. The others must be where it goes already; '
        "everything below is about all of them.</p>\n"
        f'<table><tr><th>File</th><th class="n">Size</th></tr>'
    )
    yield before + head.encode()
    for file in carried:
        yield f'\n<tr><td>{escape(file.filename)}</td><td class="n">{human_size(file.size)}</td></tr>'.encode()
    yield b"</table>\n<h1>The whole set</h1>" + rest
    yield from page


def human_size(size: int) -> str:
    """*size* bytes for people: ``12 B``, ``3.4 MB`` (powers of ten)."""
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def _summary(targets: Sequence[BundledTarget], files: Sequence[BundledFile]) -> Iterable[str]:
    sdists = sum(not file.is_wheel for file in files)
    indexes = sorted({file.index for file in files if file.index})
    yield '<table class="summary">'
    for name, value in (
        ("Projects", str(len(_projects(files)))),
        ("Files", f"{len(files)}, of which {_count(sdists, 'source distribution')}"),
        ("Size", f"{human_size(sum(file.size for file in files))} before compression"),
        ("Targets", ", ".join(target.name for target in targets) or "none"),
        ("Indexes", ", ".join(indexes) or "none"),
    ):
        yield f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
    yield "</table>"


def _attention(files: Sequence[BundledFile]) -> Iterable[str]:
    notes = [
        f"<strong>{escape(file.filename)}</strong> is a source distribution: installing it runs code from the package."
        for file in files
        if not file.is_wheel and (file.targets or file.builds)
    ]
    notes += [
        f"<strong>{escape(file.filename)}</strong> was yanked{_reason(file.yanked)}."
        for file in files
        if file.yanked is not None
    ]
    yield "<h2>To look at</h2>"
    if not notes:
        yield '<p class="box">Nothing: only wheels, none of them yanked.</p>'
        return
    yield '<ul class="box">'
    yield from (f'<li><span class="warn">{note}</span></li>' for note in notes)
    yield "</ul>"


def _targets(targets: Sequence[BundledTarget], files: Sequence[BundledFile]) -> Iterable[str]:
    yield "<h2>Targets</h2><table>"
    yield '<tr><th>Target</th><th>Python</th><th class="n">Projects</th><th class="n">Size</th></tr>'
    for target in targets:
        size = sum(file.size for file in files if target.name in file.targets)
        python = target.markers.get("python_full_version", "")
        yield (
            f"<tr><td><code>{escape(target.name)}</code></td><td>{escape(python)}</td>"
            f'<td class="n">{len(target.pins)}</td><td class="n">{human_size(size)}</td></tr>'
        )
    yield "</table>"


def _project_table(files: Sequence[BundledFile], metadata: Mapping[str, bytes]) -> Iterable[str]:
    yield "<h2>Projects</h2><table>"
    yield "<tr><th>Project</th><th>Version</th><th>License</th>"
    yield '<th class="n">Files</th><th class="n">Size</th><th>Why</th></tr>'
    for project, group in _projects(files).items():
        versions = ", ".join(dict.fromkeys(file.version for file in group))
        licenses = dict.fromkeys(read_license(metadata.get(file.filename, b"")) for file in group)
        yield (
            f"<tr><td><strong>{escape(project)}</strong></td><td>{escape(versions)}</td>"
            f"<td>{escape(', '.join(filter(None, licenses)))}</td>"
            f'<td class="n">{len(group)}</td><td class="n">{human_size(sum(file.size for file in group))}</td>'
            f"<td>{_chains(group)}</td></tr>"
        )
    yield "</table>"


def _file_table(files: Sequence[BundledFile]) -> Iterable[str]:
    yield "<h2>Files</h2><table>"
    yield '<tr><th>File and SHA-256</th><th class="n">Size</th><th>From</th><th>Targets</th></tr>'
    for file in files:
        marks = [] if file.is_wheel else ["runs code when installed"]
        marks += [] if file.yanked is None else ["yanked"]
        mark = f' <span class="warn">{escape(", ".join(marks))}</span>' if marks else ""
        uploaded = f'<br><span class="note">uploaded {escape(file.upload_time)}</span>' if file.upload_time else ""
        yield (
            f"<tr><td>{escape(file.filename)}{mark}<br><code>{escape(file.sha256)}</code>{uploaded}</td>"
            f'<td class="n">{human_size(file.size)}</td><td>{escape(file.source)}</td>'
            f"<td>{escape(', '.join(file.targets))}</td></tr>"
        )
    yield "</table>"


def _chains(files: Sequence[BundledFile]) -> str:
    """Why a project is here: each different chain once, folded when it has more than one step."""
    found: list[str] = []
    for chain in dict.fromkeys(file.chain for file in files if file.chain):
        if len(chain) == 1:
            found.append(escape(chain[0]))
            continue
        steps = "".join(f"<li>{escape(step)}</li>" for step in chain)
        found.append(f"<details><summary>{escape(chain[-1])}</summary><ol>{steps}</ol></details>")
    return "<br>".join(found)


def _projects(files: Sequence[BundledFile]) -> dict[str, list[BundledFile]]:
    found: dict[str, list[BundledFile]] = {}
    for file in files:
        found.setdefault(file.project, []).append(file)
    return found


def _reason(yanked: str | None) -> str:
    return f" (“{escape(yanked)}”)" if yanked else ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
