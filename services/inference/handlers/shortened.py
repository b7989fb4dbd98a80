"""An answer to as much of a conversation as a model takes, where its beginning may be forgotten."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from services.inference.core.answering import Answer, Piece, Question
from services.inference.core.forgetting import forgettable, moved, without
from services.inference.ports import ChatModel
from shared.errors import Permanent


async def pieces_of(chat: ChatModel, question: Question, answer: Answer) -> AsyncGenerator[Piece]:
    """As `ChatModel.pieces`.

    Twice as much is forgotten each time: then the prompts of a long conversation begin alike for
    long, and what is cached of them goes on to help.

    Raises:
        Permanent: also `context_too_long`, where nothing more may be forgotten.
    """
    may = forgettable(question.messages) if question.held.demands.truncation == "auto" else []
    gone = 0
    while True:
        shorter = replace(
            question,
            messages=without(question.messages, may[:gone]),
            thoughts=moved(question.thoughts, may[:gone]),
        )
        try:
            async with aclosing(chat.pieces(shorter if gone else question, answer)) as pieces:
                async for piece in pieces:
                    yield piece
        except Permanent as error:
            if error.code != "context_too_long" or gone == len(may):
                raise
            gone = min(len(may), 2 * gone or 1)
        else:
            return
