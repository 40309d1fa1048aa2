"""Settings of the watermark. The text under a field is its row in docs/configure.md."""

from pathlib import Path

from pydantic import Field, SecretStr

from serve_app.settings.section import Section


class WatermarkSettings(Section):
    """An inaudible mark in everything that is spoken."""

    use: str | None = None
    """`silentcipher`, or `MODULE:FACTORY` of a watermark of your own. Unset: speech is not marked."""
    key: SecretStr | None = Field(default=None)
    """The operator's private key. SilentCipher takes five numbers from 0 to 255, such as `12,34,56,78,90`. Set it in
    the environment, since Serve shows the `args` of a config."""
    weights: Path | None = None
    """The folder of SilentCipher's 44.1k model, which holds `hparams.yaml`."""
