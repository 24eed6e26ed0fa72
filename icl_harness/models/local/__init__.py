"""What back ends of local models are made of: token ids, keys and values, attention, batches."""
