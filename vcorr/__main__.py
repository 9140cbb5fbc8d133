"""`python -m vcorr` is the program `vcorr`."""

from vcorr.cli.main import main

if __name__ == "__main__":
    main()
