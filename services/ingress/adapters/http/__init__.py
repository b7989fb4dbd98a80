"""HTTP: routers that parse a request, call a handler and shape the answer. No decisions here."""
