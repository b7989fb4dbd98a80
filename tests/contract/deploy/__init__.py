"""What describes the system to others (Compose, Kubernetes, images), held against the code."""
