"""The fake engine against the suite of the port it stands for."""

from __future__ import annotations

import pytest

from tests.contract.engines.engine_suite import EngineSuite, Harness, MakeHarness, answer, ask
from tests.fakes.instant_engine import InstantEngine, InstantOptions


class TestInstantEngine(EngineSuite):
    @pytest.fixture
    def make(self) -> MakeHarness:
        def build(*, max_sequences: int = 16, kv_blocks: int = 64) -> Harness:
            options = InstantOptions(max_sequences=max_sequences, kv_blocks=kv_blocks)
            engine = InstantEngine(options=options)
            return Harness(engine, engine.fail_next_step, engine.break_next_step)

        return build


async def test_a_script_that_ends_ends_with_stop() -> None:
    engine = InstantEngine(lambda _: [5, 6, 7])
    await engine.start()
    said = await answer(engine, ask("a", [1], 10))
    assert (said.token_ids, said.finished.reason) == ((5, 6, 7), "stop")
