"""Whatever the fold remembers survives the way into a snapshot and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.sessions.adapters.snapshots import fold_digest, pack, unpack
from services.sessions.core.evolve import evolve
from services.sessions.core.state import SessionState
from tests.contract.history_file import read_history

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.jsonl"))


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_every_state_of_a_recorded_session_comes_back(path: Path) -> None:
    facts = read_history(path)
    state = SessionState(ref=facts[0].ref)
    for stored in facts:
        state = evolve(state, stored)
        assert unpack(pack(state, fold_digest()), fold_digest()) == state
