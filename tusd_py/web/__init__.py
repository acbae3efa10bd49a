"""HTTP: turns ASGI requests into commands and outcomes into answers."""
