"""Whether a host's subclass overrides something: the faster ways are for those that do not."""

from __future__ import annotations


def is_inherited(cls: type, base: type, *names: str) -> bool:
    """Return whether ``cls`` has these attributes from ``base``: no subclass overrides them."""
    return all(getattr(cls, name) is getattr(base, name) for name in names)
