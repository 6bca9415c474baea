"""Publishing: merges a store's records into published files and validates them."""
