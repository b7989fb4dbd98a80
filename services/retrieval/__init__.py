"""Retrieval: documents become passages with vectors; questions find them again."""
