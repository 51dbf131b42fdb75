"""Figures of energies, samples and metrics; the only package that imports matplotlib.

The drawing functions take plain tensors in the data's own units and return a Figure; `animation`
and `contact_sheet` combine PNG files. No function changes state outside of its figure: neither
pyplot nor global settings are used, so that figures may be drawn in any thread.
"""

import logging

# matplotlib warns, for example, if it cannot write its font cache, which does not concern a run.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
