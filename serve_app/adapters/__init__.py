"""The adapters that an operator has named: those of the settings, and those added while the server runs."""
