"""What people ask of curves: each question a function that yields answers."""
