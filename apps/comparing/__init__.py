"""The Compare tab's parts: its form, its layout, what becomes of a dialogue, many prompts at once."""
