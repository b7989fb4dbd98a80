"""What the commands reach: the system, the terminal, the machine."""
