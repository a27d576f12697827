"""What scores units: one class a file."""
