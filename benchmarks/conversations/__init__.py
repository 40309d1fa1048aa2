"""Conversations and their WebSocket, beside plain requests to the same server."""
