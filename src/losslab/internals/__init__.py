"""Private parts of Hydra, Lightning, torch and W&B. One file for each library; nothing else imports them.

Each function says what it is for and what to do when a release takes its part away. pyproject.toml therefore has a
ceiling for each of these libraries: the next release that the tests have not been run with.
"""
