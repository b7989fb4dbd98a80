"""`make run`: the whole system on this machine, every service its own process, one supervisor."""
