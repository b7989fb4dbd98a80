"""Tests, by level: unit, contract, integration, e2e, chaos, bench."""
