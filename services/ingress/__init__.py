"""The HTTP adapter: completions as OpenAI and Anthropic shape them, tasks, documents. No state."""
