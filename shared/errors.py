"""The error families, split by what a retry can do about them.

    MillraceError
    ├── Transient(code, detail, retry_after)   the world was not ready: try again later
    ├── Permanent(code, detail, field)         the input is wrong: trying again cannot help
    └── Broken(code, detail)                   our bug: retried, bounded, logged loudly

Errors travel between services as a `Failure` value, never as a traceback. `code` is stable and
part of the contract; `detail` is written for the person who has to act on it and holds no secret.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Family = Literal["transient", "permanent", "broken"]


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error as a value, as it stands in facts, replies and dead letters."""

    code: str
    family: Family = "permanent"
    detail: str = ""
    field: str | None = None
    retry_after: float | None = None


class MillraceError(Exception):
    """Base of every error that Millrace raises on purpose."""

    family: Family = "broken"

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        field: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail
        self.field = field
        self.retry_after = retry_after

    def as_failure(self) -> Failure:
        """The value that travels in place of this exception."""
        return Failure(
            code=self.code,
            family=self.family,
            detail=self.detail,
            field=self.field,
            retry_after=self.retry_after,
        )


class Transient(MillraceError):
    """The world was not ready (time-out, overload, lost connection): retry later."""

    family: Family = "transient"


class Permanent(MillraceError):
    """The request itself cannot succeed; `field` names what to change where there is one."""

    family: Family = "permanent"


class Broken(MillraceError):
    """A bug of ours. Retried a bounded number of times, because a redeploy may mend it."""

    family: Family = "broken"


_FAMILIES: dict[Family, type[MillraceError]] = {
    "transient": Transient,
    "permanent": Permanent,
    "broken": Broken,
}


def failure_of(error: BaseException) -> Failure:
    """Any exception as a value; one we did not raise ourselves is `Broken` by definition.

    The text of a foreign exception may hold anything, so only its type name travels.
    """
    if isinstance(error, MillraceError):
        return error.as_failure()
    return Failure(code="internal", family="broken", detail=type(error).__name__)


def error_of(failure: Failure) -> MillraceError:
    """The exception that a received failure stands for."""
    return _FAMILIES[failure.family](
        failure.code, failure.detail, field=failure.field, retry_after=failure.retry_after
    )
