"""The self-test: faults are injected into a sound conversion, and every check is judged by what it finds."""
