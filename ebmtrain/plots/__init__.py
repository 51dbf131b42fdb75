"""Pictures of energies, samples and metrics; the only user of matplotlib.

Every function takes plain tensors in the data's own units and returns a Figure. None keeps state
outside that figure: no pyplot, no global settings, so that figures may be drawn from any thread.
"""
