"""From base model to assistant: chat format, supervised loss, adapters, evaluation, replies."""
