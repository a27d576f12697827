"""Pictures, as matplotlib figures from arrays; nothing here knows a trainer or a file."""
