"""Google: `gemini`, the cached contents it is `kept` in (`caches`), `decisions`, `batches`;
`legacy` is the SDK that Google has ended.
"""
