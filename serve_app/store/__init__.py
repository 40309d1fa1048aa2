"""Where state outlives a process: the database, the files, and what signs their addresses."""
