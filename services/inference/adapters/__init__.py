"""Outside systems of the inference service, one module or folder for each."""
