"""Session-state: the agent loop. Facts in, work out."""
