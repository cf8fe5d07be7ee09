"""A model larger than a process: its weights read from the disk slice by slice, each process those that it holds."""
