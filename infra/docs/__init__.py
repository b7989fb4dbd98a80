"""The documents of what the outside may rely on: OpenAPI of HTTP, AsyncAPI of the bus."""
