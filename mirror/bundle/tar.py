"""The one way in which a bundle spells a tar member: POSIX ustar, with a pax header only where ustar has no room. Pure.

Every header follows from a path and a size. The reader therefore never interprets a header: it makes the one that the
manifest calls for and compares bytes. What :func:`describe` finds in a foreign header goes into an error message only.
"""

from __future__ import annotations

BLOCK = 512
#: Modification time of every member: 1980-01-01T00:00:00Z, what a zip file can hold too.
MTIME = 315_532_800
#: Two zero blocks end an archive.
END = bytes(2 * BLOCK)

_NAME_BYTES = 100
_MAX_OCTAL_SIZE = 8**11 - 1
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"5": "a folder",
    b"6": "a named pipe",
    b"g": "a global pax header",
}


def header(path: str, size: int) -> bytes:
    """Return everything that comes before the *size* bytes of the member *path*: one block, or three with pax."""
    name = path.encode()
    records: list[tuple[str, str]] = []
    if not path.isascii() or len(name) > _NAME_BYTES:
        records.append(("path", path))
        name = path.encode("ascii", "replace")[:_NAME_BYTES]
    if size > _MAX_OCTAL_SIZE:
        records.append(("size", str(size)))
    block = _block(name, b"0", 0 if size > _MAX_OCTAL_SIZE else size)
    if not records:
        return block
    extended = b"".join(_record(key, value) for key, value in records)
    return _block(b"PaxHeaders/airgap", b"x", len(extended)) + extended + bytes(padding(len(extended))) + block


def padding(size: int) -> int:
    """Return how many zero bytes follow *size* bytes of content."""
    return -size % BLOCK


def member_size(path: str, size: int) -> int:
    """Return how many bytes the member takes in the archive, headers and padding included."""
    plain = path.isascii() and len(path) <= _NAME_BYTES and size <= _MAX_OCTAL_SIZE
    return (BLOCK if plain else len(header(path, size))) + size + padding(size)


def describe(data: bytes) -> tuple[str, str, int] | None:
    """Return ``(path, kind, size)`` of the header that *data* begins with, as tar would read it; None if it is none.

    *kind* is empty for a plain file. For error messages: nothing that this returns is used otherwise.
    """
    block, path = data[:BLOCK], None
    if block[156:157] in (b"x", b"L"):
        size = max(_size(block), 0)
        content = data[BLOCK : BLOCK + size]
        path = _pax_path(content) if block[156:157] == b"x" else content.rstrip(b"\0").decode("utf-8", "replace")
        start = BLOCK + size + padding(size)
        block = data[start : start + BLOCK] or block
    if len(block) < BLOCK or block[257:262] != b"ustar":
        return None
    if path is None:
        name = block[:100].rstrip(b"\0")
        prefix = block[345:500].rstrip(b"\0")
        path = (prefix + b"/" + name if prefix else name).decode("utf-8", "replace")
    return path, _KINDS.get(block[156:157], ""), _size(block)


def _size(block: bytes) -> int:
    """The size field, or -1 where it is no octal number."""
    try:
        return int(block[124:136].rstrip(b"\0 ") or b"0", 8)
    except ValueError:
        return -1


def _block(name: bytes, kind: bytes, size: int) -> bytes:
    fields = (
        name.ljust(_NAME_BYTES, b"\0"),
        b"0000644\0",
        b"0000000\0",  # uid
        b"0000000\0",  # gid
        b"%011o\0" % size,
        b"%011o\0" % MTIME,
        b"        ",  # the checksum counts as blanks while it is computed
        kind,
        bytes(100),  # link target
        b"ustar\x0000",
        bytes(64),  # user and group names
        b"0000000\x000000000\0",  # device numbers
        bytes(155 + 12),  # path prefix, rest of the block
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _record(key: str, value: str) -> bytes:
    """One pax record: length, blank, ``KEY=VALUE``, newline; the length counts its own digits too."""
    body = f" {key}={value}\n".encode()
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def _pax_path(content: bytes) -> str | None:
    for line in content.split(b"\n"):
        _, found, value = line.partition(b" path=")
        if found:
            return value.decode("utf-8", "replace")
    return None
