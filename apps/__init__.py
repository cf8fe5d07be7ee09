"""The playground: shows, computes nothing, keeps no state."""
