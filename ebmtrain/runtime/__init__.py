"""Process setup: devices, native code, signals, seeds, standard streams, memory."""
