"""What can go wrong, as one tree.

    PrivacyError
    ├── Refused        the statement is not one that may be answered (code, position, hint)
    ├── PolicyError    the provider's policy is not usable (path into the document)
    └── EngineFailed   the engine did not finish (never carries the engine's own message)

No message holds a data value: errors are seen by buyers, and data is protected.
"""

from __future__ import annotations


class PrivacyError(Exception):
    """Base of every error of this package.

    Attributes:
        code: stable snake_case name of what happened.
        hint: what to do next, as a sentence.
    """

    code: str = "privacy_error"
    hint: str = "See the message."


class Refused(PrivacyError):
    """A statement that is not answered. Decided from text, policy and options alone, never from data.

    Attributes:
        code: stable snake_case name of the rule that refused.
        line: 1-based line of the offending text (1 when the whole statement is meant).
        column: 1-based column of the offending text, counted in characters.
        hint: what would be allowed instead.
        nearest: a statement near this one that is answered, where one was found.
    """

    code = "refused"
    hint = "Rewrite the statement."

    def __init__(self, code: str, message: str, *, line: int = 1, column: int = 1, hint: str) -> None:
        super().__init__(message)
        self.code = code
        self.line = line
        self.column = column
        self.hint = hint
        self.nearest: str | None = None


class PolicyError(PrivacyError):
    """A policy document that cannot be used.

    Attributes:
        path: where in the document, for example ``tables.flights.columns.dep_delay.bounds``.
    """

    code = "policy_invalid"
    hint = "Correct the policy at the named path."

    def __init__(self, path: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        if hint is not None:
            self.hint = hint


class EngineFailed(PrivacyError):
    """The engine did not answer. The reason is kept from the reader: engine messages carry cell values.

    ``code`` is ``query_failed``, ``query_timeout`` or ``query_too_large``: for the operator alone. Which of
    them it was can depend on private rows, so a buyer is shown `for_buyer` instead.
    """

    code = "query_failed"
    hint = "Try again later; if it happens again, ask the operator with the request id."

    def __init__(self, code: str = "query_failed", message: str | None = None) -> None:
        default = (
            "The query took too long." if code == "query_timeout" else "The query could not be completed."
        )
        super().__init__(message or default)
        self.code = code

    def for_buyer(self) -> EngineFailed:
        """The same for every cause: code ``query_failed``, one message and one hint."""
        return EngineFailed()
