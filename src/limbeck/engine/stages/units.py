"""Sizes and times as a person reads them."""

from __future__ import annotations

__all__ = ["amount", "duration"]


def amount(size: float) -> str:
    """A number of bytes with a fitting unit.

    Example:
        >>> amount(3_145_728_000), amount(512)
        ('3.1 GB', '512 B')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def duration(seconds: float) -> str:
    """A number of seconds with fitting units.

    Example:
        >>> duration(40), duration(90), duration(10_000)
        ('40 s', '2 min', '2 h 47 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
