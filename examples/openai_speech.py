"""Speech with OpenAI's client. Only its address is another."""

import os

from openai import OpenAI

server = os.environ.get("CSM_URL", "http://localhost:8000")
client = OpenAI(base_url=f"{server}/v1", api_key=os.environ.get("CSM_KEY", "none"))
with client.audio.speech.with_streaming_response.create(
    model="csm-1b", voice="alloy", input="Hello, how are you?", extra_body={"seed": 7}
) as speech:
    speech.stream_to_file("hello.mp3")
