"""Our codes and logits beside transformers', and those of the served configuration beside our readable ones."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_app.engine.prompt import ModelLimits, Prompt, build_prompt
from serve_app.engine.reference import PlainReference
from serve_app.engine.service import TokenService
from serve_app.messages import GenerationRequest
from serve_app.settings import EngineSettings
from serve_app.verify.agreement import Difference, first_difference, largest_difference, regrets
from serve_app.verify.check import PARITY, SERVED, Check, finite, judged
from serve_app.verify.passages import Utterance, codes_of

_MAX_LOGIT_DIFFERENCE = 0.01
"""In spreads, float32 beside float32: rounding stays below 0.0001, another rotation or a wrong row is above 0.1."""
_MIN_CODEC_AGREEMENT = 0.98
"""Share of equal codes of a clip: where two entries are about equally near, rounding decides."""
_MAX_MEAN_REGRET = {"float32": 0.002, "bfloat16": 0.05, "int8": 0.15, "fp8": 0.3, "int4": 0.6}
"""In spreads. A code drawn at random costs 3. Measured with random weights: bfloat16 0.001 (small) and 0.0015 (csm-1b),
int8 0.0025 (small)."""


@dataclass(frozen=True, slots=True)
class _Compared:
    """One utterance, spoken by both. Logit differences are as they are, and in spreads."""

    label: str
    same_prompt: bool
    shape: tuple[int, ...]
    difference: Difference | None
    logit_difference: float
    logit_spreads: float
    codec_agreement: float | None
    """Share of the clip's codes that our encoder gives too."""

    @property
    def reasons(self) -> Iterator[str]:
        if not self.same_prompt:
            yield f"{self.label}: the prompt's token ids are not transformers'"
        if self.difference is not None:
            yield f"{self.label}: codes differ first at {self.difference}"
        if not self.logit_spreads <= _MAX_LOGIT_DIFFERENCE:
            yield f"{self.label}: logits differ by {self.logit_spreads:.2g} of their spread"
        if self.codec_agreement is not None and self.codec_agreement < _MIN_CODEC_AGREEMENT:
            yield f"{self.label}: only {self.codec_agreement:.0%} of the clip's codes are transformers'"

    @property
    def values(self) -> dict[str, Any]:
        differences = {name: finite(getattr(self, name)) for name in ("logit_difference", "logit_spreads")}
        return asdict(self) | differences

    @property
    def row(self) -> str:
        codes = "no code differs" if self.difference is None else f"codes differ first at {self.difference}"
        clip = "" if self.codec_agreement is None else f"; {self.codec_agreement:.1%} of the clip's codes agree"
        return (
            f"{self.shape[0]} frames of {self.shape[1]} codes: {codes}; logits within {self.logit_difference:.1e} "
            f"({self.logit_spreads:.1e} of their spread){clip}"
        )


def check_parity(
    reference: PlainReference, utterances: Sequence[Utterance], our_clips: Sequence[Sequence[NDArray[np.integer]]]
) -> Check:
    """`our_clips`: of each utterance, its clips as our encoder has them."""
    codes = _spoken_by(reference, [utterance.request() for utterance in utterances])
    compared = [
        _compare(reference, utterance, ours, clips)
        for utterance, ours, clips in zip(utterances, codes, our_clips, strict=True)
    ]
    reasons = (reason for one in compared for reason in one.reasons)
    rows = [(one.label, one.row) for one in compared]
    return judged(PARITY, reasons, rows, {"utterances": [one.values for one in compared]})


def check_served(
    reference: PlainReference,
    requests: Sequence[GenerationRequest],
    codes: Sequence[NDArray[np.int64]],
    arithmetic: str,
) -> Check:
    """Every code that the served engine drew, judged by the reference's logits at the same place of the same speech.

    `arithmetic` is how it was served: the quantization, or the type where there is none.
    """
    judgements = [
        regrets(reference.logits(_prompt(reference, request), drawn), drawn)
        for request, drawn in zip(requests, codes, strict=True)
        if len(drawn)
    ]
    if not judgements:
        return judged(SERVED, ["the served engine ends before its first frame"], [], {})
    below = np.concatenate([regret.ravel() for regret in judgements])
    mean, largest, agreeing = float(below.mean()), float(below.max()), float((below == 0).mean())
    limit = _MAX_MEAN_REGRET[arithmetic]
    reasons = (
        [] if mean <= limit else [f"codes are {mean:.2g} spreads below the reference's favourite, {limit} allowed"]
    )
    row = (
        f"{agreeing:.1%} of {below.size} codes are the float32 reference's favourites; they are {mean:.1e} of the "
        f"logits' spread below it on average, {largest:.1e} at most"
    )
    values = {
        "arithmetic": arithmetic,
        "codes": below.size,
        "agreeing": agreeing,
        "mean_regret": finite(mean),
        "max_regret": finite(largest),
        "limit": limit,
    }
    return judged(SERVED, reasons, [(f"{arithmetic}, {len(judgements)} at once", row)], values)


def _compare(
    reference: PlainReference,
    utterance: Utterance,
    codes: NDArray[np.int64],
    clips: Sequence[NDArray[np.integer]],
) -> _Compared:
    theirs = utterance.spoken
    prompt = _prompt(reference, utterance.request())
    apart = largest_difference(reference.logits(prompt, theirs.codes), theirs.logits) if len(theirs.codes) else (0, 0)
    equal = [ours == coded for ours, coded in zip(clips, theirs.context_codes, strict=True)]
    return _Compared(
        label=utterance.label,
        same_prompt=np.array_equal(prompt.text_ids, theirs.prompt_ids),
        shape=theirs.codes.shape,
        difference=first_difference(codes, theirs.codes),
        logit_difference=apart[0],
        logit_spreads=apart[1],
        codec_agreement=float(np.mean(np.concatenate(equal))) if equal else None,
    )


def _prompt(reference: PlainReference, request: GenerationRequest) -> Prompt:
    info = reference.parts.info
    limits = ModelLimits(info.num_codebooks, info.codebook_size, info.max_positions)
    return build_prompt(request, reference.parts.tokenizer, limits)


def _spoken_by(reference: PlainReference, requests: Sequence[GenerationRequest]) -> list[NDArray[np.int64]]:
    async def speak() -> list[NDArray[np.int64]]:
        service = TokenService(reference.parts, EngineSettings(max_batch_size=reference.parts.info.max_batch_size))
        try:
            return await asyncio.gather(*(codes_of(service, request) for request in requests))
        finally:
            service.stop()

    return asyncio.run(speak())
