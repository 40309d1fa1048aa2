"""Whether a checkpoint is served as it should be: its files, its codes, its sound, its speed. No tensor in here."""
