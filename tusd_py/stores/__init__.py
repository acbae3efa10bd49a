"""Where uploads are kept. Each store implements `core.ports.Store` and what it can do beyond it."""
