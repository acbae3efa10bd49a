"""Hooks that are HTTP receivers: `transport` is the way to one; what was made for tusd's HTTP hooks works unchanged."""
