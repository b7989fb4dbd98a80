"""Who may call what, and how much of it: keys, scopes, rates, room."""
