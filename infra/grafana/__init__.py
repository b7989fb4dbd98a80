"""Dashboards as code: described in `boards`, built by `build`; `python -m infra.grafana`."""
