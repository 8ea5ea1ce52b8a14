"""Races: which losses and optimizers to go on with, decided while they are trained."""
