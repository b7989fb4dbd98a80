"""Tests without sockets or models."""
