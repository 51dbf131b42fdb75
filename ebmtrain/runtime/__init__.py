"""The process: devices, native code, signals, seeds, streams, memory."""
