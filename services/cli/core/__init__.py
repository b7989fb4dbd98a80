"""Pure parts of the command line: words, bars and the state of a live display."""
