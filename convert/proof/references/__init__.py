"""The reference: the source's own network, which never sees the converter's renaming."""
