"""One function for each tool: it takes a ``ToolCall`` and gives the reply, which calls the use cases alone."""
