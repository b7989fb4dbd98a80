"""The services: independent processes that talk only through the bus."""
