"""Labels and measures -> quantities per volume of water."""
