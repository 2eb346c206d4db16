"""Whole numbers that a user gives."""

from __future__ import annotations

from spikekit.errors import InputError


def whole(who: str, what: str, value: object, least: int = 1) -> int:
    """`value`, where it is a whole number and `least` or more; else InputError."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{who}: {what} must be a whole number, {least} or more, got {value!r}")
    return value
