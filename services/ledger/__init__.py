"""The ledger: projects the log into SQL. The bill is a function of the log."""
