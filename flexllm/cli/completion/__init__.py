"""Completion with the Tab key in bash, zsh and fish.

The scripts are in flexllm/data/completion, in English and, where a shell shows what an option does, in the other languages
too. shtab writes them at development time, so that a plain install needs none.
"""

SHELLS = ("bash", "zsh", "fish")
"""The shells in which it works."""
