"""The HTTP adapter: OpenAI-compatible completions, durable tasks, documents. Holds no state."""
