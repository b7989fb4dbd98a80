"""What the ledger does with a fact, a question and a replay."""
