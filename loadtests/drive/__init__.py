"""The process that makes the load: gevent's and Locust's world, kept to itself (ADR 0045)."""
