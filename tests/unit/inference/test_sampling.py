"""The choice of a token."""

from __future__ import annotations

import numpy as np
import pytest

from services.inference.adapters.openvino.sampling import choose, logprob, weighed
from services.inference.ports import Sampling

ROW = np.log(np.array([0.1, 0.5, 0.3, 0.1], np.float32))


def draws(sampling: Sampling, count: int = 300) -> set[int]:
    random = np.random.default_rng(3)
    return {choose(ROW, sampling, random) for _ in range(count)}


def test_zero_temperature_takes_the_best() -> None:
    assert choose(ROW, Sampling(temperature=0), None) == 1


@pytest.mark.parametrize(
    ("sampling", "possible"),
    [
        (Sampling(), {0, 1, 2, 3}),
        (Sampling(top_k=2), {1, 2}),
        (Sampling(top_k=1), {1}),
        (Sampling(top_p=0.5), {1}),
        (Sampling(top_p=0.79), {1, 2}),
        (Sampling(top_p=0.0), {1}),
        (Sampling(temperature=0.01), {1}),
    ],
)
def test_what_can_be_drawn(sampling: Sampling, possible: set[int]) -> None:
    assert draws(sampling) == possible


def test_a_forbidden_token_is_never_drawn() -> None:
    row = ROW.copy()
    row[1] = -np.inf
    random = np.random.default_rng(0)
    assert 1 not in {choose(row, Sampling(), random) for _ in range(200)}


def test_the_seed_decides() -> None:
    def draw(seed: int) -> list[int]:
        random = np.random.default_rng(seed)
        return [choose(ROW, Sampling(), random) for _ in range(20)]

    assert draw(1) == draw(1) != draw(2)


def test_logprobs_are_of_the_raw_distribution_best_first() -> None:
    entry = logprob(ROW, 2, 2)
    assert entry.logprob == pytest.approx(np.log(0.3), abs=1e-6)
    assert [token for token, _ in entry.top] == [1, 2]
    assert len(logprob(ROW, 2, 99).top) == 4


def test_penalties_count_what_was_said() -> None:
    row = np.zeros(4, np.float32)
    sampling = Sampling(frequency_penalty=0.5, presence_penalty=1.0, logit_bias=((3, 7.0),))
    changed = weighed(row, sampling, {0: 1, 1: 4})
    assert changed.tolist() == [-1.5, -3.0, 0.0, 7.0]
    assert row.tolist() == [0.0] * 4


def test_without_weights_the_row_is_not_copied() -> None:
    row = np.zeros(4, np.float32)
    assert weighed(row, Sampling(), {0: 9}) is row


def test_log_probabilities_without_alternatives() -> None:
    found = logprob(np.array([1.0, 1.0], np.float32), 0, 0)
    assert (found.top, round(found.logprob, 4)) == ((), -0.6931)
