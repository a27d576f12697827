"""What scores groups: one class a file."""
