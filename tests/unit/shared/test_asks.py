"""Which subjects a tenant's own client may read, and how its questions are spelled."""

import pytest

from shared.errors import Permanent
from shared.subjects import ASKED_OF_RETRIEVAL, ASKED_OF_SESSIONS, ask_subject, asker_of, stream_for
from shared.subjects.permissions import GRANTS, tenant_permissions
from tests.fakes.subjects import covers


@pytest.mark.parametrize(
    ("subject", "stream"),
    [
        ("run.*.acme.>", "RUNS"),
        ("run.*.acme.s1.>", "RUNS"),
        ("run.7.acme.s1.done.t1", "RUNS"),
        ("run.north.acme.*.accepted.*", "RUNS"),
        ("tokens.acme.s1.>", "TOKENS"),
        ("docs.acme.handbook.*", "DOCS"),
        ("blob.acme._doc-1f.v_2a.0", "BLOBS"),
    ],
)
def test_the_tenants_own_subjects_are_read_where_they_lie(subject: str, stream: str) -> None:
    assert stream_for("acme", subject) == stream
    with pytest.raises(Permanent, match="invalid_subject"):
        stream_for("other", subject)


@pytest.mark.parametrize("what", [*ASKED_OF_SESSIONS, *ASKED_OF_RETRIEVAL])
def test_every_question_has_one_service_and_reaches_it(what: str) -> None:
    subject = ask_subject("acme", what)
    assert covers(tenant_permissions("acme").publish, subject)
    assert not covers(tenant_permissions("other").publish, subject)
    owner = "retrieval" if what in ASKED_OF_RETRIEVAL else "sessions"
    assert [user for user in GRANTS if covers(GRANTS[user].hears, subject)] == [owner]
    assert not [user for user in GRANTS if covers(GRANTS[user].sends, subject)]
    assert asker_of(subject) == "acme"
