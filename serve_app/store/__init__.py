"""State that outlives a process: the database, the files, the server's secrets, and signed addresses."""
