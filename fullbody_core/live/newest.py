"""What lies between two threads that must not wait for each other: the newest item, and none before it."""

import threading


class Newest:
    """Holds one item. A new one replaces what was not taken in time, and counts that as dropped."""

    def __init__(self):
        self._changed = threading.Condition()
        self._items = []
        self._closed = False
        self._dropped = 0

    def put(self, item):
        """Never waits. Does nothing once the slot is closed."""
        with self._changed:
            if self._closed:
                return
            self._dropped += len(self._items)
            self._items = [item]
            self._changed.notify()

    def take(self, timeout=None):
        """The newest item, which is then gone. None where none came within `timeout` s, or none will come any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout)
            return self._items.pop() if self._items else None

    def close(self):
        """Says that nothing more will come. What lies here may still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def is_closed(self):
        """Whether it was closed and is empty."""
        with self._changed:
            return self._closed and not self._items

    @property
    def dropped(self):
        """How many items were replaced before anybody took them."""
        with self._changed:
            return self._dropped
