"""The revisions, oldest first; `down_revision` says what each one stands on."""
