"""Faults of machines and files: kills, full disks, damaged files, hangs; docs/faults.md says what becomes of each."""
