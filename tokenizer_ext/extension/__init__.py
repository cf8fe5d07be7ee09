"""What to add to a vocabulary, what it is worth, what moved: plan, checks, certificate, report."""
