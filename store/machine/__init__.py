"""What this process may use of its machine: cores, memory, GPUs, memory that processes share."""
