"""The codecs that are read, by the names of FFmpeg's decoders."""

_PCM = (
    {
        f"pcm_{kind}{bits}{order}"
        for kind, bits, orders in (
            *(("s", bits, ("le", "be")) for bits in (16, 24, 32, 64)),
            *(("u", bits, ("le", "be")) for bits in (16, 24, 32)),
            *(("f", bits, ("le", "be")) for bits in (32, 64)),
            ("f", 16, ("le",)),
            ("f", 24, ("le",)),
            *((kind, 8, ("",)) for kind in "su"),
        )
        for order in orders
    }
    | {"pcm_alaw", "pcm_mulaw", "pcm_s16be_planar", "pcm_s8_planar"}
    | {f"pcm_s{n}le_planar" for n in (16, 24, 32)}
)
_ADPCM = {"adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "adpcm_swf", "adpcm_yamaha", "g722", "g726", "g726le"}
_LOSSLESS = {"alac", "flac", "tta", "wavpack"}
_SPEECH = {"amrnb", "amrwb", "libopencore_amrnb", "libopencore_amrwb", "gsm", "gsm_ms", "speex"}
_MUSIC = {
    "aac", "aac_latm", "ac3", "eac3", "libopus", "mace3", "mace6", "mp1", "mp1float", "mp2", "mp2float", "mp3",
    "mp3float", "opus", "qdm2", "vorbis",
}  # fmt: skip

CODECS = frozenset(_PCM | _ADPCM | _LOSSLESS | _SPEECH | _MUSIC)
