"""What is kept and shown afterwards: usage, requests, dead letters."""
