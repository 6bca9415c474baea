"""Engine lock: checks that the engine's code is the code that its number ENGINE stands for."""
