"""The heart: what an upload is, the ports it is kept behind, and the one order of steps. Knows no wire and no disk."""
