"""Results, errors and requests, where the real library has them."""
