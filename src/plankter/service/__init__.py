"""Pages and API: the workspace in a browser and for scripts. Reads, checks and hands on; the work is `workflow`'s."""
