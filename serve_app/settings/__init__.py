"""Every tunable, by its owner."""

from serve_app.settings.conversations import ConversationSettings, RecordSettings
from serve_app.settings.section import Section
from serve_app.settings.server import Settings, load_settings, misspelt_variables, models_in, suggestion
from serve_app.settings.service import (
    DatabaseSettings,
    FileSettings,
    JobSettings,
    KeySettings,
    NetSettings,
    TracingSettings,
    WebhookSettings,
)
from serve_app.settings.speech import (
    STAND_IN,
    CodecSettings,
    EngineSettings,
    FailoverSettings,
    LimitSettings,
    SamplingSettings,
    StandInSettings,
)
from serve_app.settings.voices import VoiceSettings
from serve_app.settings.watermark import WatermarkSettings

__all__ = [
    "STAND_IN",
    "CodecSettings",
    "ConversationSettings",
    "DatabaseSettings",
    "EngineSettings",
    "FailoverSettings",
    "FileSettings",
    "JobSettings",
    "KeySettings",
    "LimitSettings",
    "NetSettings",
    "RecordSettings",
    "SamplingSettings",
    "Section",
    "Settings",
    "StandInSettings",
    "TracingSettings",
    "VoiceSettings",
    "WatermarkSettings",
    "WebhookSettings",
    "load_settings",
    "misspelt_variables",
    "models_in",
    "suggestion",
]
