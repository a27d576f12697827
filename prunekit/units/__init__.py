"""Method B: how much each LSTM unit tells, and which units go."""
