"""Fakes that pass the suites of the ports they stand for."""
