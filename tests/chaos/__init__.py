"""The chaos suite: real processes, many tasks, scripted and random faults, the invariants."""
