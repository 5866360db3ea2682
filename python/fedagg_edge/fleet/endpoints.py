"""Which parent address to use: the first of a list, and the next after too long without contact."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from fedagg_edge.errors import ConfigError

__all__ = ["Endpoint", "Endpoints", "parse_endpoint"]

Endpoint = tuple[str, int]
"""Host and port."""


def parse_endpoint(url: str) -> Endpoint:
    """``https://host:port`` as (host, port), 443 where no port is given; raises ConfigError."""
    try:
        parts = urlsplit(url)
        port = parts.port or 443
        if parts.hostname is not None and not parts.hostname.isascii():
            parts.hostname.encode("idna")  # as the connection will have it; a UnicodeError is a ValueError
    except ValueError as error:
        raise ConfigError(f"endpoint: got {url!r}, expected https://host:port") from error
    if parts.scheme != "https" or not parts.hostname or parts.path not in ("", "/") or parts.query or parts.username:
        raise ConfigError(f"endpoint: got {url!r}, expected https://host:port")
    return parts.hostname, port


class Endpoints:
    """A list of addresses, one of them current.

    A contact is a complete HTTP answer. After `patience` seconds without one the next address becomes current, and so
    on around the list, each with a patience of its own.
    """

    def __init__(self, urls: Sequence[str], patience: float, now: float) -> None:
        self._patience = patience
        self.replace(urls, now)

    @property
    def current(self) -> str:
        return self._urls[self._place]

    def replace(self, urls: Sequence[str], now: float) -> None:
        """A new list, from its first address on; raises ConfigError if it is empty or an address is malformed."""
        if not urls:
            raise ConfigError("endpoints: got an empty list, expected at least one https://host:port")
        for url in urls:
            parse_endpoint(url)
        self._urls, self._place, self._since = tuple(urls), 0, now

    def contact(self, now: float) -> None:
        """The current address answered."""
        self._since = now

    def failed(self, now: float) -> bool:
        """The current address did not answer; return whether another one is current now."""
        if len(self._urls) == 1 or now - self._since < self._patience:
            return False
        self._place = (self._place + 1) % len(self._urls)
        self._since = now
        return True
