"""What sockets of all dialects share: who may open one, and how many are open."""

from serve_app.api.places import Places
from serve_app.settings import LimitSettings

NORMAL_CLOSURE, POLICY_VIOLATION, INTERNAL_ERROR, TRY_AGAIN_LATER = 1000, 1008, 1011, 1013


def socket_places(limits: LimitSettings) -> Places:
    """One for all dialects of an ingress replica, since a key's sockets are counted together."""
    return Places("sockets", limits.max_sockets, limits.max_sockets_per_key)
