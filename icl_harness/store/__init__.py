"""The run folder: what was asked, what was answered, what was paid."""
