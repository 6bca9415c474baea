"""The promises of an optimizer entry."""
