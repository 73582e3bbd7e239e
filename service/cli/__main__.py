"""`python -m service.cli` is `tallygate`."""

from service.cli import main

if __name__ == "__main__":
    main()
