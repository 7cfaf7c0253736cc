"""The Prefect flow and the command line: they call the library and show what it says, and compute nothing."""
