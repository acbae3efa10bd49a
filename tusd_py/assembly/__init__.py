"""The composition root's larger parts: settings become stores, lockers, hooks and queues. `app` puts them together."""
