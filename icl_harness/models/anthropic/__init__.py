"""Anthropic (floor 2): `messages` and their `batches`."""
