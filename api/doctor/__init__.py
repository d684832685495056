"""`longleaf doctor`: what this installation is, whether it is well, and what to do when not."""
