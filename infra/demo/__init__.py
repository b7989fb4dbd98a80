"""`make demo`: real tasks on the running system, every step shown, every answer checked."""
