"""A refusal of the server: recognised, told once, counted, handed on."""

import pytest

from shared.bus.denials import Denials, Denied, denied_in


class Told:
    """A log that remembers."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def error(self, event: str, **fields: object) -> None:
        self.lines.append((event, fields))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'nats: permissions violation for publish to "run.3.a.b.done.t"',
            Denied("publish", "run.3.a.b.done.t"),
        ),
        (
            'nats: Permissions Violation for Subscription to "feed.>"',
            Denied("subscribe", "feed.>"),
        ),
        (
            'nats: permissions violation for subscription to "a.b" using queue "q"',
            Denied("subscribe", "a.b"),
        ),
        ("nats: authorization violation", None),
        ("nats: stale connection", None),
    ],
)
def test_what_the_server_says_is_understood(text: str, expected: Denied | None) -> None:
    assert denied_in(text) == expected


def test_a_subject_is_told_once_and_counted_always() -> None:
    told, heard = Told(), []
    denials = Denials(told)
    denials.listen(heard.append)
    for _ in range(3):
        assert denials.notice(Exception('permissions violation for publish to "a.b"'))
    assert len(told.lines) == 1
    assert told.lines[0] == (
        "bus.permission_denied", {"operation": "publish", "subject": "a.b"},
    )  # fmt: skip
    assert denials.counts == {"publish": 3}
    assert heard == [Denied("publish", "a.b")] * 3


def test_the_inboxes_of_a_user_are_told_as_one() -> None:
    told = Told()
    denials = Denials(told)
    for n in range(5):
        denials.notice(Exception(f'permissions violation for publish to "_inbox.tools.abc.{n}"'))
    assert [fields["subject"] for _, fields in told.lines] == ["_inbox.tools.*"]


def test_guesses_without_end_do_not_fill_the_memory() -> None:
    told = Told()
    denials = Denials(told)
    for n in range(1500):
        denials.notice(Exception(f'permissions violation for publish to "guess.{n}"'))
    assert len(told.lines) == 1000
    assert denials.counts["publish"] == 1500


def test_another_error_is_left_to_others() -> None:
    assert not Denials(Told()).notice(Exception("nats: stale connection"))
