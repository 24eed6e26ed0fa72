"""Prompts as paths in a tree: nodes, templates, modes."""
