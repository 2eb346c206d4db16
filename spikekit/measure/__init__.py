"""Measuring networks: activity, operations."""
