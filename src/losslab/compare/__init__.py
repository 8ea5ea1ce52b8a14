"""From runs to a verdict, a table and a page: `losslab compare RUNS…`.

Only `cross` imports torch, to load trained models.
"""
