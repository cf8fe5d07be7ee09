"""The documents of a corpus: read from files as a stream, and which of them are left out."""
