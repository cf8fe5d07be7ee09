"""What is read: files and the Hub into conversations, pairs and questions, split into training and held-out."""
