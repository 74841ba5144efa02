"""``python -m heteromics``: the command line, where its script is not on the path."""

from heteromics.cli import main

if __name__ == "__main__":
    main()
