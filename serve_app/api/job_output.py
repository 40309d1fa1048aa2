"""The output of a scene that was spoken into a file: what a job stores. fal's dialect sends it as it is."""

from collections.abc import Sequence
from typing import Any

from serve_app.speech.answer import Answer, StoredAnswer
from serve_app.speech.scene import Scene


def notices_of(scene: Scene, answer: Answer) -> list[str]:
    """All that the caller should know of the request, in words."""
    return [*scene.remarks, *answer.notices]


def output_of(answer: StoredAnswer, notices: Sequence[str]) -> dict[str, Any]:
    """What a job's row keeps of its answer."""
    file = answer.file
    told: dict[str, Any] = {"notices": list(notices)} if notices else {}
    if answer.quality is not None:
        told["quality"] = dict(answer.quality)
    return told | {
        "audio": {
            "url": answer.url,
            "content_type": file.content_type,
            "file_name": file.name,
            "file_size": file.size,
        },
        "seed": answer.seed,
        "finish_reason": str(answer.finish_reason),
        "audio_seconds": answer.audio_seconds,
        "turns": [
            {
                "turn": turn.turn,
                "speaker_id": turn.speaker,
                "start": turn.start_seconds,
                "end": turn.end_seconds,
                "first_frame": turn.first_frame,
                "end_frame": turn.end_frame,
            }
            for turn in answer.turns
        ],
    }
