"""What is asked for: the parameters, the presets, and the request they make. Pure: no I/O."""
