"""Parsers in child processes: see `pool.SandboxReader`."""
