"""The messages: frozen structs, one module per conversation. Pure data, no IO."""
