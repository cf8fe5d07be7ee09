"""How a model computes while it trains: fused layers, padding-free and packed attention, precision."""
