"""`make up` and `make down`: the system in containers, by compose.yaml."""
