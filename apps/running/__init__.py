"""The parts of the Runs tab: a form made from the settings of a run, and what is seen of runs."""
