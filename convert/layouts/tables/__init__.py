"""The tables of renames that come with the package, one file for each layout."""
