"""Tasks of other harnesses: their documents, texts and scores, our shots, modes and grid."""
