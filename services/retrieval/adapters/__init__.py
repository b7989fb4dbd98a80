"""The outside of retrieval: the embedding model, the vector database, the bus."""
