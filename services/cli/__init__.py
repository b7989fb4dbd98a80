"""The command line: `millrace`. A client of the bus like any other."""
