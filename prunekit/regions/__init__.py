"""Method A: the connected regions of a weight image, their index, and which of them go."""
