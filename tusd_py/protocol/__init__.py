"""The wire rules as pure functions: no await, no I/O, no web framework."""
