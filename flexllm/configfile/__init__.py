"""The configuration file: as values, read and checked. Which server is asked is decided in `config`."""
