"""The studio and the service: show, compute nothing, keep no state."""
