"""Updates compiled into one graph, and updates of several runs as one."""
