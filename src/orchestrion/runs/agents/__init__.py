"""Agents: one small file each, behind one seam (``agent.py``). May import ``core`` only."""
