"""Sound as bytes: any clip in, 24 kHz PCM out, and the containers it is sent in."""
