"""Re-weighting control: the weights of ProSelfLC without its correction (Wang et al., CVPR 2021, arXiv 2005.03788).

If no gradient flows through the target and T = 1, the gradient of ProSelfLC is that of cross entropy with each sample
scaled by 1 − ε. The control has this re-weighting only, which separates its effect from that of the correction. Ranges
and points: those of ProSelfLC.
"""

from search_spaces import proselflc

SPACE = {**proselflc.SPACE, "loss.name": "reweighting_control"}

POINTS = proselflc.POINTS
