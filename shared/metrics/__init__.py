"""What is measured: `kinds` counts, `catalogue` names it all, `exporter` shows it to Prometheus.

Metrics are the one thing that a process has and does not pass on as a value: whoever counts does so
where it happens, and nothing that is decided depends on it (decision record 0041).
"""
