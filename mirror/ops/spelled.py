"""Frozen values as JSON and back: the same text for the same value, whatever the process. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from packaging.requirements import Requirement

T = TypeVar("T")


def spell(value: object) -> str:
    """The JSON of dataclasses, collections, requirements and times; a TypeError for anything else."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def unspell(kind: type[T], text: str) -> T:
    """The value of *kind*, a dataclass, that :func:`spell` made *text* of; a ValueError or TypeError for other text."""
    named: Any = kind
    found: T = _reader(named)(json.loads(text))
    return found


def _plain(value: object) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, frozenset | set):
        return sorted(_plain(item) for item in value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Requirement):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(value):
        return [_plain(getattr(value, field.name)) for field in fields(value)]
    raise TypeError(f"{type(value).__name__} has no spelling")


def _same(plain: Any) -> Any:
    return plain


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """What makes a value of *kind* of its JSON."""
    kind = getattr(kind, "__supertype__", kind)  # of a NewType
    if kind in (str, int):
        return _same
    if kind is Requirement:
        return Requirement
    origin, inside = get_origin(kind), get_args(kind)
    if origin is UnionType:  # None stands for itself
        read = _reader(next(part for part in inside if part is not NoneType))
        return _same if read is _same else lambda plain: None if plain is None else read(plain)
    if origin is tuple and inside[1:] == (...,):
        item = _reader(inside[0])
        return tuple if item is _same else lambda plain: tuple(map(item, plain))
    if origin is Mapping:
        item = _reader(inside[1])
        return lambda plain: {key: item(value) for key, value in plain.items()}
    make, parts = (kind, _fields(kind)) if origin is None else (lambda *values: values, inside)
    readers = tuple(map(_reader, parts))
    return lambda plain: make(*[read(value) for read, value in zip(readers, plain, strict=True)])


def _fields(kind: Any) -> tuple[Any, ...]:
    """The types of a dataclass's fields."""
    hints = get_type_hints(kind)
    return tuple(hints[field.name] for field in fields(kind))
