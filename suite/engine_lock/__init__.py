"""The lock of the engine: whether its code is the code that its number ENGINE stands for."""
