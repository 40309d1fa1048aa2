"""Adapters: low-rank changes of a checkpoint's matrices, as PEFT writes them."""
