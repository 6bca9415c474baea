"""Kinds of problem shared by several tasks: image classification."""
