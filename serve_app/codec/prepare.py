"""Makes a checkpoint's codec ready for `preparation.py`: `python -m serve_app.codec.prepare '{"model": …, "path": …}'`.

The last line of its output is JSON: {} where the codec is in `path`, `reason` where the kernels cannot run it, and
`error` where the checkpoint cannot be served.
"""

import json
import sys
from pathlib import Path
from typing import Any

from serve_app.codec.default_voices import encoded_voices
from serve_app.codec.encoder import ClipEncoder
from serve_app.codec.fingerprint import fingerprint
from serve_app.codec.loading import load_codec
from serve_app.codec.native.from_mimi import decoder_weights, inexpressible
from serve_app.codec.prepared import PreparedCodec
from serve_app.errors import StartupError
from serve_app.settings import Settings


def main(wanted: dict[str, Any]) -> dict[str, str]:
    settings = Settings(model=wanted["model"], revision=wanted["revision"], base=wanted["base"], device="cpu")
    try:
        checkpoint, mimi = load_codec(settings)
        if reason := inexpressible(mimi):
            return {"reason": reason}
        voices = encoded_voices(checkpoint.folder, ClipEncoder(mimi, cache_entries=0))
        PreparedCodec(decoder_weights(mimi), fingerprint(mimi), voices).save(Path(wanted["path"]))
    except StartupError as error:
        return {"error": str(error)}
    return {}


if __name__ == "__main__":
    sys.stdout.write(f"{json.dumps(main(json.loads(sys.argv[1])))}\n")
