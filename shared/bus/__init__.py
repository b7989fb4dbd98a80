"""The plumbing of the bus: connection, topology, log, consuming. Knows NATS; knows no service."""
