"""Kinds of problem that several tasks share: image classification."""
