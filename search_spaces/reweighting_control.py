"""Re-weighting control: ProSelfLC's weights without its correction (after Wang et al., CVPR 2021, arXiv 2005.03788).

With a stopped target and T = 1, ProSelfLC's gradient is that of cross entropy with each sample scaled by 1 − ε. This
space searches that alone, over ProSelfLC's own ranges and from its own points, to tell correction from re-weighting.
"""

from search_spaces import proselflc

SPACE = {**proselflc.SPACE, "loss.name": "reweighting_control"}

POINTS = proselflc.POINTS
