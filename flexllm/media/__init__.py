"""Media in content parts: any source a caller may name becomes what the provider wants, read once for each client.

In two steps: `parts.as_messages` writes parts in one form that JSON can hold, before a conversation is checked; and
`inline.inline_messages` puts files and downloads inline, on the way to the provider (`backends.endpoint`).
"""
