"""Frozen values as JSON and back: the same text for the same value, whatever the process. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    found: T = _value(kind, json.loads(text))
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


def _value(kind: Any, plain: Any) -> Any:
    kind = getattr(kind, "__supertype__", kind)  # of a NewType
    if plain is None or kind in (str, int):
        return plain
    if kind is Requirement:
        return Requirement(plain)
    origin, inside = get_origin(kind), get_args(kind)
    if origin is UnionType:  # None stands for itself, so it is the other one
        return _value(next(part for part in inside if part is not NoneType), plain)
    if origin is tuple:
        kinds = inside[:1] * len(plain) if inside[1:] == (...,) else inside
        return tuple([_value(part, item) for part, item in zip(kinds, plain, strict=True)])
    if origin is Mapping:
        return {key: _value(inside[1], item) for key, item in plain.items()}
    return kind(*[_value(part, item) for part, item in zip(_kinds(kind), plain, strict=True)])


@cache
def _kinds(kind: Any) -> tuple[Any, ...]:
    """The types of a dataclass's fields."""
    hints = get_type_hints(kind)
    return tuple(hints[field.name] for field in fields(kind))
