"""The ingress's pure part: bodies, OpenAI shapes, task state, error mapping. No IO, no clock."""
