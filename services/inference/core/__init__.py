"""What inference knows without IO: prompts, text, tool calls and the result of one generation."""
