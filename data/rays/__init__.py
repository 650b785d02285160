"""Rays: what a camera sees, and the direct light there."""
