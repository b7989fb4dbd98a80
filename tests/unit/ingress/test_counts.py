"""How many messages a request may have: one too many is refused, and names the field."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError

from services.ingress.core.chat.body import ChatBody
from services.ingress.core.http.validation import MAX_MESSAGES, failure_of_validation
from services.ingress.core.messages.body import MessagesBody
from services.ingress.core.tasks.bodies import TaskBody

SAID = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("kind", "field", "rest"),
    [
        (ChatBody, "messages", {"model": "default"}),
        (MessagesBody, "messages", {"model": "default", "max_tokens": 9}),
        (TaskBody, "input", {"agent": "assistant"}),
    ],
)
def test_one_message_too_many(kind: type[BaseModel], field: str, rest: dict[str, object]) -> None:
    kind.model_validate(rest | {field: [SAID] * MAX_MESSAGES})
    with pytest.raises(ValidationError) as refused:
        kind.model_validate(rest | {field: [SAID] * (MAX_MESSAGES + 1)})
    failure = failure_of_validation(refused.value.errors())
    assert (failure.code, failure.field) == ("invalid_request", field)
    assert str(MAX_MESSAGES) in failure.detail
