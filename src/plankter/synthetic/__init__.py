"""Made-up runs in the instruments' own formats, with the truth known."""

from plankter.synthetic.drawings import KINDS, draw_particle
from plankter.synthetic.flowcam import SyntheticRun, simulate_flowcam_run
from plankter.synthetic.season import simulate_season

__all__ = ["KINDS", "SyntheticRun", "draw_particle", "simulate_flowcam_run", "simulate_season"]
