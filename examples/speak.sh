#!/bin/sh
# Speech with curl: a whole file, and a stream that a player can take.
set -eu
SERVER=${CSM_URL:-http://localhost:8000}

# --form-string sends a text as it is. With -F, curl cuts it at `;`, and opens a file for `<` and `@`.
curl -sS --fail-with-body "$SERVER/generate" --form-string 'text=Hello; are you @home? I <3 tea.' -F streaming=false -o hello.wav

# As JSON. -N passes each chunk on at once: put `| aplay -q -t raw -f S16_LE -r 24000` in the place of -o to hear it.
curl -sS -N --fail-with-body "$SERVER/generate" -d '{"text": "Hello, how are you?", "streaming": true, "format": "pcm"}' -o hello.pcm
ls -l hello.wav hello.pcm
