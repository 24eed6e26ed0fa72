"""The walk over a grid: the spec, what it resolves to, what is sent in which order."""
