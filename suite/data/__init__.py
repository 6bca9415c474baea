"""Data: sources of images, their splits and label noise, and mini-batches of them."""
