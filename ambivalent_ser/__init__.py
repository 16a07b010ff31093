"""The installed command ``ambivalent``."""

__version__ = "0.2.0.dev0"
