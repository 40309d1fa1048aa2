"""Conversations that the server holds: who said what, and how it sounded, as codes."""
