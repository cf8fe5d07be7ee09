"""Models as GGUF files, which llama.cpp and what builds on it open: weights, vocabulary, and what proves them."""
