"""Speech as clients want to have it: formats, sample rates and tempo, encoded while it is made."""
