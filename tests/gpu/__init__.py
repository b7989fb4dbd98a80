"""TensorRT-LLM itself, on a GPU, against the suites and the signatures: `make test-gpu`.

Nothing in here runs where the library is not installed; everything that can be tested without it is
in `tests/contract/engines/`, on a look-alike.
"""
