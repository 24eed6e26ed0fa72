"""Operators of variants, one a file. A new one is one function marked with `@operator`."""
