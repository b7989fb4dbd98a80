"""What the suite's tools answer: known beforehand, so that a wrong answer is found out. Pure."""

from __future__ import annotations

from shared.contracts.base import SessionRef
from tests.chaos.model import Order


def result_of(name: str, tenant: str, session: str, mark: str, n: int) -> str:
    """The text of a tool's answer; it names who asked."""
    return f"{name}:{tenant}/{session}/{mark}/{n}"


def expected_results(ref: SessionRef, order: Order) -> list[str]:
    """What a model is shown of all the calls of a task, in order."""
    found: list[str] = []
    for n, name in enumerate(order.calls):
        text = result_of(name, ref.tenant, ref.session, order.mark, n)
        found.append(f"error: {text}" if name == "refuse" else text)
    return found
