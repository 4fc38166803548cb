"""What a person runs: no stage imports any of it."""
