"""The router: which model and which worker runs a model call."""
