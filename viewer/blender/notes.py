"""What is drawn in another way than Blender has it, with counts."""

from __future__ import annotations

from collections.abc import Iterable

# Names that a line lists.
_SHOWN = 3


class Notes:
    """Collects events and where they happened."""

    def __init__(self) -> None:
        self._places: dict[str, dict[str, None]] = {}

    def add(self, event: str, place: str = "") -> None:
        """Note an event of something that has a name."""
        self._places.setdefault(event, {})[place] = None

    def update(self, events: Iterable[str]) -> None:
        """Note several events."""
        for event in events:
            self.add(event)

    @property
    def lines(self) -> list[str]:
        """One line for each kind of event."""
        return [event + _named([place for place in places if place]) for event, places in self._places.items()]


def _named(places: list[str]) -> str:
    more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    return f" ({', '.join(places[:_SHOWN])}{more})" if places else ""
