"""The outside of the ingress: the bus on one side, HTTP on the other."""
