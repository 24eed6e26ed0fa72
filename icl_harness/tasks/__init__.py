"""What is asked, of which examples, scored how."""
