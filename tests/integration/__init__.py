"""Real parts: nats-server, Milvus Lite, processes."""
