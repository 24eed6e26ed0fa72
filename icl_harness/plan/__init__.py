"""What a grid would ask, and what that costs: an asker that asks nothing."""
