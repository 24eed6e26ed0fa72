"""What people look at: runs read back, pictures."""
