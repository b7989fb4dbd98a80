"""The inference service: a worker that turns a transcript into tokens with one engine."""
