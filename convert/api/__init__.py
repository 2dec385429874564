"""The public functions, a file for each; each calls the steps in order."""
