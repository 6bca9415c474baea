"""The engine: computes the record of a run from its spec. Every module that can change a number is locked."""
