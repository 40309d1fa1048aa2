"""When each word of a known text is heard: forced alignment, on CPUs and off the audio path."""
