"""ElevenLabs' text-to-speech API, as far as one voice model can serve it."""
