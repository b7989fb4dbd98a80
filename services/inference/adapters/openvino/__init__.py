"""The embedded CPU engine: OpenVINO paged attention under our own in-flight batching."""
