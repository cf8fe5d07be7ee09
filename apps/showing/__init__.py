"""What every tab of the studio reads and shows with: the models, the values of a form, texts as HTML, the look."""
