"""A conversation on the terminal: what was said and to whom, the commands that begin with a slash, the editor of lines."""
