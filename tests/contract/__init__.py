"""What must hold for every implementation of a contract."""
