"""The decider: facts -> state -> actions. Pure: no IO, clock or randomness."""
