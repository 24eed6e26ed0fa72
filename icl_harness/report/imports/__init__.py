"""Results of other programs, made into run folders: tables of scores, logs of lm-eval and Inspect.

sources.py opens a file, columns.py says which column is what, values.py reads a cell of it,
answers.py makes answers of rows, folder.py writes the run.
"""
