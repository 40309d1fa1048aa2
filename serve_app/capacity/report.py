"""A plan in words, with the Serve config that follows from it and what it assumes."""

from collections.abc import Iterator

from serve_app.capacity.costs import FULL_PROCESS, PREDICTED
from serve_app.capacity.plan import LEAD_SECONDS, FirstAudio, Plan


def rows(plan: Plan, card_price: float | None) -> Iterator[tuple[str, str]]:
    """What it takes, a label and a value each."""
    wish = plan.wish
    rate = wish.streams / wish.answer_seconds
    yield "listeners at once", f"{wish.streams}, answers of {wish.answer_seconds:g} s: {rate:g} requests a second"
    yield (
        "cards",
        f"{plan.cards} {wish.card.name}, one of them to spare; {plan.most_cards} for {wish.burst:g} times the load",
    )
    yield "a card carries", f"{plan.load:.0f} listeners, and could carry {plan.most_streams:.0f}"
    yield "slots of a card", f"{plan.slots}: keys and values take {plan.kv_gib:.1f} GiB"
    yield "busy", f"{plan.card_busy:.0%} of a card's time, {plan.slots_busy:.0%} of its slots"
    yield "ingresses", f"{plan.ingresses} of one core, {plan.ingress_requests} streams each"
    yield "cores beside the models", f"{plan.cores:.3g}, filled to {FULL_PROCESS:.0%}"
    if plan.cells > 1:
        yield "clusters", f"{plan.cells}, each with {-(-plan.cards // plan.cells)} cards: see docs/scale.md on cells"
    yield "first audio", _heard(plan.usual)
    yield "first audio in a burst", f"{_heard(plan.burst)}, until cards have started ({wish.start_seconds:.0f} s)"
    yield "cost", _cost(plan, card_price)


def config(plan: Plan) -> str:
    """The values of a Serve config, to merge into serve_app/configs/autoscaling.yaml; of one cluster."""
    cards, most = (-(-count // plan.cells) for count in (plan.cards, plan.most_cards))
    ingresses = max(2, -(-plan.ingresses // plan.cells))
    return f"""\
args:
  engine: {{max_batch_size: {plan.slots}, max_waiting: {plan.max_waiting}, max_lead_seconds: {LEAD_SECONDS:g}}}
  codec: {{max_streams: {plan.slots}}}
deployments:
  - name: TokenGenerator
    autoscaling_config: {{min_replicas: {cards}, max_replicas: {most}}}
  - name: AudioDecoder
    autoscaling_config: {{min_replicas: {cards}, max_replicas: {most}}}
  - name: Ingress
    autoscaling_config:
      {{min_replicas: {ingresses}, max_replicas: {2 * ingresses}, target_ongoing_requests: {plan.ingress_requests}}}
"""


def assumptions(plan: Plan) -> Iterator[str]:
    """What the plan stands on, the weakest first."""
    wish = plan.wish
    if wish.card.source == PREDICTED:
        yield (
            f"the step times of {wish.card.name} are {PREDICTED}. Measure yours with csm-serve verify, and give them "
            "as --step-ms ROWS=MS,ROWS=MS"
        )
    else:
        yield f"the step times of {wish.card.name} are the given ones; those of the codec are {PREDICTED}"
    yield f"a new card makes its first step after {wish.start_seconds:.0f} s (--start-seconds)"
    yield "the codec takes turns with the generator on the same card, and a voice is in the prefix cache"
    cost = f"{1000 * wish.path.cores:.1f} CPU-ms a stream-second (measured, {wish.path.name})"
    yield f"the path beside the models costs {cost}"
    yield "answers have exponential lengths, and are sent as they are made; listeners do not leave early"
    yield f"arrivals have burstiness {wish.burstiness:g} (1 is Poisson); two cards were simulated, for a minute"


def _heard(heard: FirstAudio) -> str:
    refused = f"; {heard.refused:.1%} refused" if heard.refused else ""
    return f"{_time(heard.p50)} at the median, {_time(heard.p99)} at the 99th percentile{refused}"


def _time(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _cost(plan: Plan, card_price: float | None) -> str:
    hours = plan.card_hours_per_audio_hour
    price = "" if card_price is None else f", {card_price * hours:.4f} at {card_price:g} a card-hour"
    return f"{hours:.4f} card-hours an audio-hour{price}, at full load"
