"""`python -m longleaf` is `longleaf`."""

from longleaf.api.cli.main import main

if __name__ == "__main__":
    main()
