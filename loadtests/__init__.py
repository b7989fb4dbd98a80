"""`make load`: Locust against a running system, judged by a floor measured in the same run."""
