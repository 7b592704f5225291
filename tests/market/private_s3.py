"""An S3 server of a test's own: it can be killed, and started again with what it had."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from services import seaweedfs

if TYPE_CHECKING:
    from collections.abc import Iterator


class PrivateS3:
    """The server; ``url`` is its bucket, and stays the same."""

    def __init__(self) -> None:
        self.state = seaweedfs.start({})
        told = seaweedfs.environment(self.state)
        self.url = told["EXCHANGE_TEST_S3_URL"]
        self.credentials = {
            "AWS_ACCESS_KEY_ID": told["EXCHANGE_TEST_S3_ACCESS_KEY_ID"],
            "AWS_SECRET_ACCESS_KEY": told["EXCHANGE_TEST_S3_SECRET_ACCESS_KEY"],
        }

    def kill(self) -> None:
        """End it as a crash does."""
        seaweedfs.kill(self.state)

    def start(self) -> None:
        """Start it again on its port."""
        self.state = seaweedfs.start(self.state)


@contextlib.contextmanager
def private_server() -> Iterator[PrivateS3]:
    """A server, gone afterwards; its credentials are in the environment meanwhile."""
    made = PrivateS3()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in made.credentials.items():
                patch.setenv(name, value)
            yield made
    finally:
        made.kill()  # nobody needs what it would still write
        seaweedfs.stop(made.state)
