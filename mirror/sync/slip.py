"""The text that lies beside a bundle: what it brings, and what it must be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mirror.bundle import Manifest, Written
from mirror.ops.delta import open_rows
from mirror.ops.diff import Difference, diff


def changes_since(last: Path | None, manifest: Manifest) -> Difference:
    """How *manifest* differs from the one in the file *last*, or from none."""
    if last is None:
        return diff(Manifest(), manifest)
    with open_rows(last) as rows:
        return diff(rows, manifest)


def summary(found: Difference) -> list[str]:
    """What is new, changed and gone, a line a project, for people."""
    if not found:
        return ["The same files as last time."]
    lines: list[str] = []
    for kind, title in (("added", "new"), ("changed", "changed"), ("removed", "gone")):
        for change in found.of_kind(kind):
            versions = " -> ".join(filter(None, (", ".join(change.old_versions), ", ".join(change.new_versions))))
            size = f", {change.added_size:,} bytes" if change.added_size else ""
            lines.append(f"{title}: {change.project} {versions}{size}")
            lines += [f"  other bytes under the same name: {file.filename}" for file in change.replaced]
    lines += [f"target {target.kind}: {target.name}" for target in found.targets if target.kind != "changed"]
    return lines or ["The same files for other targets."]


def slip(title: str, changes: Sequence[str], written: Written) -> bytes:
    """The text that goes with a bundle, for whoever carries it and whoever takes it in.

    Its last line is one that ``sha256sum --check`` reads.
    """
    facts = [f"identity  {written.identity}", f"size      {written.size:,} bytes", ""]
    return "\n".join([title, "", *changes, "", *facts, f"{written.sha256}  {written.path.name}", ""]).encode()
