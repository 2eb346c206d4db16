"""Measurements: accuracy that anyone can rerun, and speed beside the peers."""
