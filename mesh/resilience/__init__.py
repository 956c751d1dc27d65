"""What stands between a caller and a destination that may be ill."""
