"""Adapters of the ledger: SQL, its in-memory twin, and the log."""
