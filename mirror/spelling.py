"""JSON for people, as ``json.dumps(…, indent=1)`` spells it, in pieces: a long list is never held as a whole. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

# With an indent, json takes an encoder in Python that leaves a cycle of closures behind at every call: garbage that
# piles up until somebody collects it. What has no parts is spelled by the one in C.
_plain = json.JSONEncoder(ensure_ascii=False).encode


def spelled(document: Mapping[str, object]) -> Iterator[bytes]:
    """Yield *document* in UTF-8 with a newline at its end; a value that is an iterator is a list, an item a piece."""
    gap = "{"
    for key, value in document.items():
        head = f"{gap}\n {_plain(key)}: "
        if isinstance(value, Iterator):
            before = f"{head}["
            for item in value:
                yield f"{before}\n  {_spelled(item, 2)}".encode()
                before = ","
            yield f"{head}[]".encode() if before != "," else b"\n ]"
        else:
            yield f"{head}{_spelled(value, 1)}".encode()
        gap = ","
    yield b"\n}\n" if gap == "," else b"{}\n"


def _spelled(value: object, depth: int) -> str:
    """*value*, whose first line is indented by *depth* already; keys are texts."""
    if isinstance(value, Mapping) and value:
        parts = [f"{_plain(key)}: {_spelled(each, depth + 1)}" for key, each in value.items()]
        opening, closing = "{}"
    elif isinstance(value, (list, tuple)) and value:
        parts = [_spelled(each, depth + 1) for each in value]
        opening, closing = "[]"
    else:
        return _plain(value)
    gap = "\n" + " " * depth
    return f"{opening}{gap} {f',{gap} '.join(parts)}{gap}{closing}"
