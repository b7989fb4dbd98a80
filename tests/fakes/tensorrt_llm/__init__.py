"""A look-alike of NVIDIA's `tensorrt_llm` 1.2, for machines without a GPU.

Names, signatures and fields come from `tests/contract/trtllm_signatures.json`; behaviour follows
what is known of the real library: queues chosen by whether a loop runs, results that yield
themselves, token ids that grow, aborts that are drained, statistics and cache events that are
polled, a constructor that blocks, a dead rank that nobody notices. What it says is a script. It
proves that the adapter is written against that interface, not that a GPU would agree.

Put this folder's parent on the path, and `import tensorrt_llm` finds it.
"""

from __future__ import annotations

from tensorrt_llm.llmapi.llm import LLM
from tensorrt_llm.sampling_params import GuidedDecodingParams, SamplingParams

__version__ = "1.2.1+lookalike"
__all__ = ["LLM", "GuidedDecodingParams", "SamplingParams", "__version__"]
