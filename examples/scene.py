"""A scene with this package's own client: two speakers, one of whom has a voice from a recording."""

import os

from serve_app.client import Client, Clip, Turn

with Client(os.environ.get("CSM_URL", "http://localhost:8000")) as client:
    client.speak("Hello, how are you?", seed=7).save("hello.wav")
    voice = Clip("hello.wav", text="Hello, how are you?", speaker=1)
    speech = client.speak([Turn("Did you hear that?", 0), Turn("It was the wind.", 1)], context=[voice])
    speech.save("scene.wav")
    print("the turns begin at", speech.outcome.turn_starts, "seconds")
