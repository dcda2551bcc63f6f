"""`python -m halfling` is `halfling`."""

from halfling.cli.main import main

if __name__ == "__main__":
    main()
