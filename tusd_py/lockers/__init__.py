"""Who may change an upload. Each locker implements `core.ports.Locker`."""
