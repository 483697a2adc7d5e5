"""What `flexllm batch` is made of: its options, its way in and out, what it foretells, what watches it, what it tells."""
