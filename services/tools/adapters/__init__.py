"""The outside of the tools service: retrieval, memory, and the built-in tools that use them."""
