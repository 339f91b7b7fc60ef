"""Measurements. For now the numbers that the foundation promises; the harness comes with them."""
