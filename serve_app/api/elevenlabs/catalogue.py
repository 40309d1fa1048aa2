"""What clients list and probe before they speak: voices, models and the user."""

from collections.abc import MutableMapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.routing import Match

from serve_app.api.auth import key_of
from serve_app.api.elevenlabs.errors import documented, has_key_header
from serve_app.api.elevenlabs.voices import listed_voices, voice_with
from serve_app.keys.key import Scope
from serve_app.settings import Settings
from serve_app.speech.service import SpeechService

_MOST_ON_A_PAGE = 100
_UNLIMITED = 1_000_000_000
"""Characters left, for clients that do the sum. A key's own limits are in seconds of audio."""


class _WithTheirKey(APIRoute):
    """Matches requests that send a key as this dialect's clients do. Others share the path."""

    def matches(self, scope: MutableMapping[str, Any]) -> tuple[Match, MutableMapping[str, Any]]:
        return super().matches(scope) if has_key_header(scope) else (Match.NONE, {})


def catalogue_router(speech: SpeechService, settings: Settings) -> APIRouter:
    router = APIRouter(tags=["elevenlabs"])

    @router.get("/v1/voices", responses=documented(401))
    async def voices(request: Request) -> dict[str, Any]:
        """The key's kept voices, the server's own, and ElevenLabs' default voices, which sound like these."""
        return {"voices": await listed_voices(speech, key_of(request))}

    @router.get("/v2/voices", responses=documented(401, 422))
    async def voices_v2(request: Request, search: str = "", page_size: int = _MOST_ON_A_PAGE) -> dict[str, Any]:
        """The same, by name, on one page."""
        known = await listed_voices(speech, key_of(request))
        found = [voice for voice in known if search.lower() in voice["name"].lower()]
        page = found[: max(1, min(page_size, _MOST_ON_A_PAGE))]
        return {
            "voices": page,
            "has_more": len(page) < len(found),
            "total_count": len(found),
            "next_page_token": None,
        }

    @router.get("/v1/voices/{voice_id}", responses=documented(401, 404))
    async def voice(request: Request, voice_id: str) -> dict[str, Any]:
        """One of them."""
        return await voice_with(voice_id, speech, key_of(request))

    @router.get("/v1/user/subscription", responses=documented(401, 403))
    async def subscription(request: Request) -> dict[str, Any]:
        """A subscription without limits: those of a key are in seconds of audio."""
        key_of(request, Scope.SPEECH)
        return _subscription()

    @router.get("/v1/user", responses=documented(401, 403))
    async def user(request: Request) -> dict[str, Any]:
        """The key that calls."""
        key = key_of(request, Scope.SPEECH)
        return {
            "user_id": key.id,
            "workspace_id": key.id,
            "subscription": _subscription(),
            "is_new_user": False,
            "can_use_delayed_payment_methods": False,
            "is_onboarding_completed": True,
            "is_onboarding_checklist_completed": True,
            "created_at": 0,
            "seat_type": "workspace_member",
        }

    by_header = APIRouter(route_class=_WithTheirKey)

    @by_header.get("/v1/models", include_in_schema=False)
    async def models() -> list[dict[str, Any]]:
        """The one model, for clients of ElevenLabs. Those of OpenAI get its list at the same path."""
        return [_model((await speech.info()).model, settings.limits.max_text_chars)]

    router.include_router(by_header)
    return router


def _model(name: str, max_chars: int) -> dict[str, Any]:
    return {
        "model_id": name,
        "name": name,
        "description": "The model of this server. It answers to any other name too.",
        "can_be_finetuned": False,
        "can_do_text_to_speech": True,
        "can_do_voice_conversion": False,
        "can_use_style": False,
        "can_use_speaker_boost": False,
        "serves_pro_voices": False,
        "token_cost_factor": 1.0,
        "requires_alpha_access": False,
        "max_characters_request_free_user": max_chars,
        "max_characters_request_subscribed_user": max_chars,
        "maximum_text_length_per_request": max_chars,
        "languages": [{"language_id": "en", "name": "English"}],
        "concurrency_group": "standard",
    }


def _subscription() -> dict[str, Any]:
    return {
        "tier": "self-hosted",
        "character_count": 0,
        "character_limit": _UNLIMITED,
        "can_extend_character_limit": False,
        "allowed_to_extend_character_limit": False,
        "next_character_count_reset_unix": None,
        "voice_slots_used": 0,
        "professional_voice_slots_used": 0,
        "professional_voice_slots_used_in_workspace": 0,
        "max_credit_limit_extension": 0,
        "voice_limit": 0,
        "voice_add_edit_counter": 0,
        "professional_voice_limit": 0,
        "can_extend_voice_limit": False,
        "can_use_instant_voice_cloning": False,
        "can_use_professional_voice_cloning": False,
        "status": "active",
        "open_invoices": [],
        "has_open_invoices": False,
    }
