"""Tools: runs the tool calls of agents and says what came of them."""
