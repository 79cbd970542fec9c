"""`python -m manyscale`: the command line."""

from manyscale.cli import main

if __name__ == "__main__":
    main()
