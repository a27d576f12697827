"""Side-by-side measurements against peers, printed as tables: ``make bench``."""
