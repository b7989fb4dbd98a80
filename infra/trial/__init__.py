"""`make cluster` and `make sites`: several servers on this machine, and the loss of a part."""
