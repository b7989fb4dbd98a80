"""The commands, one module per group; `application` puts them together."""
