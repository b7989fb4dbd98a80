"""What every face shares: errors, lists, the OpenAPI document."""
