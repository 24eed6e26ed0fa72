"""A grid as it is asked: the spec, what it resolves to, the walk over its cells."""
