"""The report: a page about one proof, for people."""
