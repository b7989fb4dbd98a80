"""What every service shares: contracts, subjects, errors and the plumbing of the bus."""
