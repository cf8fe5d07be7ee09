"""Backpropagation from scratch: numbers that know their derivatives, and a network of neurons made of them."""
