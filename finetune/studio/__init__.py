"""What the studio's tabs compute and keep: texts scored, prompts asked, votes, what is seen of runs and models."""
