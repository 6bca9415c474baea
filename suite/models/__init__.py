"""Models: thin adaptors over timm and torchvision, and small networks that neither has."""
