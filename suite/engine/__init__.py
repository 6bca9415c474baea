"""The engine: what turns one spec into one record. Every module that can change a number of it is locked."""
