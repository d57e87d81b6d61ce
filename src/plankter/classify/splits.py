"""Which images train, which tune and which judge: by name, by group, by chance with a seed."""

from __future__ import annotations

import hashlib


def judges(file_name: str) -> bool:
    """Whether an image belongs to the judging half of a validation set; the other half fits temperature and thresholds.

    The half is the parity of the first byte of the SHA-256 of the file's name (without folders): it depends on nothing
    but the name, so that no later change of the set moves an image from one half to the other.
    """
    return hashlib.sha256(file_name.encode()).digest()[0] % 2 == 1
