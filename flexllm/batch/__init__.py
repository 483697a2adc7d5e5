"""A batch: its rows, its output file, what it shows, and the job that joins them."""
