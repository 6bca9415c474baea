"""Publishing: which records may be committed, and what can be checked of them."""
