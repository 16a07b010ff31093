"""Label noise: recipes, levels and manifests."""

from ser.noise.corruption import NAMED_LEVELS, NAMED_RATES, check_level, corrupt, corrupt_level, level_name
from ser.noise.manifest import NoisyLabels
from ser.noise.recipes import MATRIX, RECIPES, Recipe

__all__ = [
    "MATRIX",
    "NAMED_LEVELS",
    "NAMED_RATES",
    "RECIPES",
    "NoisyLabels",
    "Recipe",
    "check_level",
    "corrupt",
    "corrupt_level",
    "level_name",
]
