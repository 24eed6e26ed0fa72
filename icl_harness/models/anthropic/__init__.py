"""Anthropic: `messages` and their `batches`."""
