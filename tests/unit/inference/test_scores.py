"""Log-probabilities go out with the text that their tokens begin."""

from __future__ import annotations

from services.inference.core.scores import Scores
from shared.contracts.tokens import Logprob


def token(text: str, raw: bytes | None = None) -> Logprob:
    seen = text.encode() if raw is None else raw
    return Logprob(text=text, logprob=-1.0, bytes=tuple(seen) or None)


def texts(found: tuple[Logprob, ...]) -> list[str]:
    return [one.text for one in found]


def test_tokens_wait_for_their_text() -> None:
    scores = Scores()
    scores.add([token("Hel"), token("lo"), token("!")])
    assert texts(scores.take("Hello")) == ["Hel", "lo"]
    assert texts(scores.take("!")) == ["!"]


def test_a_character_of_several_tokens_brings_all_of_them() -> None:
    scores = Scores()
    scores.add([token("?", "é".encode()[:1])])
    assert scores.take("") == ()
    scores.add([token("?", "é".encode()[1:]), token("x")])
    assert texts(scores.take("é")) == ["?", "?"]


def test_a_token_that_is_cut_counts_where_it_begins() -> None:
    scores = Scores()
    scores.add([token("ab STOP"), token("more")])
    assert texts(scores.take("ab ")) == ["ab STOP"]
    assert scores.take("") == ()


def test_a_token_without_bytes_comes_with_the_next_text() -> None:
    scores = Scores()
    scores.add([token("<mark>", b""), token("a")])
    assert texts(scores.take("a")) == ["<mark>", "a"]


def test_markup_is_forgotten() -> None:
    scores = Scores()
    scores.add([token("a"), token("<tool_call>")])
    scores.take("a")
    scores.forget()
    scores.add([token("b")])
    assert texts(scores.take("b")) == ["b"]
