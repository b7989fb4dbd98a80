"""OpenAI's chat completions, of models and of agents."""
