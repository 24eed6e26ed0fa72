"""`python cli.py …` from a checkout: the same command line as the installed `icl`."""

from icl_harness.cli.app import main

if __name__ == "__main__":
    main()
