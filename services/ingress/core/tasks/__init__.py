"""Tasks and sessions, the face of our own: bodies, state, events, the socket."""
