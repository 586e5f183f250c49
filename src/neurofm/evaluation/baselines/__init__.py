"""What a user would try first, on the same windows and masks."""
