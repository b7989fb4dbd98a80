"""Which errors of a first connection are about whom it talks to."""

from __future__ import annotations

import ssl

import pytest

from shared.bus.trust import distrusted, stuck


def plain() -> ssl.SSLError:
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
    error.reason = "WRONG_VERSION_NUMBER"
    return error


def unverified() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "unable to get local issuer certificate"
    return error


@pytest.mark.parametrize(
    ("error", "says"), [(plain(), "does not begin with TLS"), (unverified(), "local issuer")]
)
def test_a_server_that_is_not_ours_is_an_error_that_says_why(error: Exception, says: str) -> None:
    found = distrusted(error)
    assert found is not None
    assert (found.code, found.field) == ("untrusted_server", "MILLRACE_NATS_CA")
    assert says in found.detail


@pytest.mark.parametrize(
    "error", [ConnectionResetError(), TimeoutError(), ssl.SSLEOFError(8, "EOF"), ValueError()]
)
def test_one_that_went_away_is_waited_for(error: Exception) -> None:
    assert distrusted(error) is None


def test_a_connection_that_broke_is_begun_anew_and_one_that_never_was_is_not() -> None:
    assert stuck(ssl.SSLEOFError(8, "EOF"))
    assert stuck(ConnectionResetError())
    assert stuck(TimeoutError())
    assert not stuck(ConnectionRefusedError())
    assert not stuck(ValueError())
