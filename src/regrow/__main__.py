"""`python -m regrow`: the same as the command `regrow`."""

from regrow.cli.main import main

if __name__ == "__main__":
    main()
