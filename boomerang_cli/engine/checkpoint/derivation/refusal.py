"""Why a family cannot be derived."""

from __future__ import annotations


class NotDerivableError(Exception):
    """Layers of the type cannot be moved, or it is not known how; the message completes "cannot be moved, …"."""
