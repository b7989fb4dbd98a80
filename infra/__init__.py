"""How the system is run: the local supervisor, configuration, the demo."""
