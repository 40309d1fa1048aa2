"""How the demo voice is made, from nothing: README.md. Nothing of this is imported by the server."""
