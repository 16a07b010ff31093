"""What may vary: one small file for each space.

A space has ``SPACE``, a dict of dotted configuration names to Ray Tune domains or constants (or a module-level
define-by-run function ``trial -> dict`` for conditional spaces), ``POINTS``, the published defaults, which are tried
first and name every searched key, and a docstring that cites its sources.
"""
