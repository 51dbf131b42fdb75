"""Pictures of energies, samples and metrics; the only user of matplotlib.

What draws takes plain tensors in the data's own units and returns a Figure; `animation` and `sheet`
join PNG files. None keeps state outside of its figure: no pyplot, no global settings, so that
figures may be drawn from any thread.
"""

import logging

# Of where it keeps its fonts, say, if no home can be written to: nothing that concerns a run.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
