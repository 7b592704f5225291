"""The one error of the services."""

from __future__ import annotations


class ServiceError(Exception):
    """A service could not be installed, started or stopped; the message says what to do next."""
