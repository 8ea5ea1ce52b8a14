"""From many runs to a verdict, a table and a page: `losslab compare RUNS…`.

Nothing here imports torch, except where trained models are asked for again (`cross=true`).
"""
