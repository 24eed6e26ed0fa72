"""The run folder: requests, answers, scores, costs."""
