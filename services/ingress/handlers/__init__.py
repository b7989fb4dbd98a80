"""What the ingress does with a request, without the transport: one class per resource."""
