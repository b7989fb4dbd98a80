"""The history of the ledger's tables: one file a revision, never edited once it was released."""
