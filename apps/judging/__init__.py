"""The parts of the tabs that judge two models: the marks of a scored text, and blind votes."""
