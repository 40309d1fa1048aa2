"""The use case: text, speakers and context audio in, speech out. No framework and no tensor in here."""
