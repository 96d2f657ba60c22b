"""Pure functions from arrays to measurements: numpy and scipy, no torch.

`confidence` is a share, 0.5 <= confidence < 1, in every function here.
"""
