"""The settings of the tools service, read once in `__main__`."""

from __future__ import annotations

from pydantic import Field

from shared.settings import BusSettings


class ToolsSettings(BusSettings):
    """How tools are run.

    `min_score` was measured with all-MiniLM-L6-v2 on 60-token passages of two small handbooks: the
    best passage for 78 questions they answer scores 0.38 to 0.84 (median 0.65), for 25 questions
    about other things at most 0.29, for 16 about the same world but not in them 0.12 to 0.61.
    """

    min_score: float = Field(
        default=0.35,
        ge=-1,
        le=1,
        description="cosine similarity below which a passage is no result",
    )
