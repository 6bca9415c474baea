"""Data: where images come from, how they are split and spoiled, and how batches of them are made."""
