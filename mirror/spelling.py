"""JSON for people, as ``json.dumps(…, indent=1)`` spells it, in pieces: a long list is never held as a whole. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

_dump = json.JSONEncoder(indent=1, ensure_ascii=False).encode


def spelled(document: Mapping[str, object]) -> Iterator[bytes]:
    """Yield *document* in UTF-8 with a newline at its end; a value that is an iterator is a list, an item a piece."""
    gap = "{"
    for key, value in document.items():
        head = f"{gap}\n {_dump(key)}: "
        if isinstance(value, Iterator):
            before = f"{head}["
            for item in value:
                yield (f"{before}\n  " + _dump(item).replace("\n", "\n  ")).encode()
                before = ","
            yield f"{head}[]".encode() if before != "," else b"\n ]"
        else:
            yield (head + _dump(value).replace("\n", "\n ")).encode()
        gap = ","
    yield b"\n}\n" if gap == "," else b"{}\n"
