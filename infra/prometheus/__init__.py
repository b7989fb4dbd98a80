"""What Prometheus reads (configuration, rules), and what is checked of it."""
