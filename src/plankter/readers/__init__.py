"""Instrument files -> runs, particles, vignettes."""
