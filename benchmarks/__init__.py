"""Figures, measured side by side with the peers."""
