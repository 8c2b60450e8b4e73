"""Lattices: weighted sets of paths to draw hypotheses from and to score them in."""

from __future__ import annotations

from wfst_losses.lattices.arcs import ArcLattice
from wfst_losses.lattices.lattice import AbstractLattice

__all__ = ["AbstractLattice", "ArcLattice"]
