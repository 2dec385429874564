"""A network as another runtime takes it: written, and held against the converted folder that it came from."""
