"""Thin adaptors over timm and torchvision, and the few models that neither has."""
