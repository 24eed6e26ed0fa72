"""OpenAI, and servers that speak as it does: `chat` completions, `responses`, `completions` with
the `echo` of their choices, `decisions`, `batches`.
"""
