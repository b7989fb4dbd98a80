"""Lets the locked `openai-agents` run beside the locked `openai`; nothing of ours is in between.

openai 2.54 made `cache_write_tokens` a required field of its usage, and openai-agents 0.13.6 builds
that object without it, before it sends anything. The field gets a default here. To be removed with
the first release of the framework that knows it: `test_the_pair_still_needs_this` fails then.
"""

from __future__ import annotations

import pydantic
from openai.types.responses.response_usage import InputTokensDetails


def needed() -> bool:
    """Whether the framework cannot build the object as it wants to."""
    try:
        InputTokensDetails(cached_tokens=0)  # type: ignore[call-arg]  # as the framework does
    except pydantic.ValidationError:
        return True
    return False


NEEDED = needed()
if NEEDED:
    InputTokensDetails.model_fields["cache_write_tokens"].default = 0
    InputTokensDetails.model_rebuild(force=True)
