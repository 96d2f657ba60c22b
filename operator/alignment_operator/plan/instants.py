"""Instants as status spells them: RFC 3339, UTC, whole seconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def spell(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse(text: str) -> datetime:
    """Raises ValueError if it is not RFC 3339."""
    return datetime.fromisoformat(text)


def after(text: str, seconds: float) -> datetime:
    return parse(text) + timedelta(seconds=seconds)


def earliest(*instants: datetime | None) -> datetime | None:
    return min((instant for instant in instants if instant is not None), default=None)
