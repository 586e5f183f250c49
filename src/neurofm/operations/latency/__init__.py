"""Latency: how long a trained model takes for a window, in which precision, and what the precision costs."""
