"""`python -m longleaf.api.cli` is `longleaf`, for our own child processes."""

from longleaf.api.cli.main import main

if __name__ == "__main__":
    main()
