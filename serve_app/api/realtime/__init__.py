"""Conversations over a WebSocket: text comes word by word, speech leaves as soon as a clause can be spoken."""
