"""OpenAI, and servers that speak as it does (floor 2): `chat` completions, `responses`, `completions` with the `echo`
of their choices, `decisions`, `batches`.
"""
