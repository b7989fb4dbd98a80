"""Somebody else's endpoint as a chat model: OpenAI-compatible ones, and Anthropic's."""
