"""The text files of a random checkpoint: a byte-level tokenizer, and the configs of transformers' CsmProcessor."""

from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing

BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"
AUDIO, AUDIO_EOS = "<|AUDIO|>", "<|audio_eos|>"

CHAT_TEMPLATE = """\
{%- for message in messages -%}
    {%- if not message['role'] | string | trim | length -%}
        {{- raise_exception('role must be a speaker id such as "0"') -}}
    {%- endif -%}
    {{- bos_token ~ '[' ~ message['role'] ~ ']' -}}
    {%- for part in message['content'] if part['type'] == 'text' -%}
        {{- part['text'] -}}
    {%- endfor -%}
    {{- eos_token -}}
    {%- for part in message['content'] if part['type'] == 'audio' -%}
        {{- '<|AUDIO|><|audio_eos|>' -}}
    {%- endfor -%}
{%- endfor -%}
"""


def byte_tokenizer(first_special_id: int) -> Tokenizer:
    """A tokenizer with one token a byte, Llama 3's ids, and CSM's special tokens from `first_special_id` on."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {character: number for number, character in enumerate(alphabet)}
    # They are in the vocabulary too, because added tokens would be numbered right after the bytes.
    vocab |= {token: first_special_id + offset for offset, token in enumerate((BOS, EOS, AUDIO, AUDIO_EOS))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (BOS, EOS, AUDIO, AUDIO_EOS)])
    tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS}:0 $A:0 {EOS}:0",
        pair=f"{BOS}:0 $A:0 {EOS}:0 {BOS}:1 $B:1 {EOS}:1",
        special_tokens=[(BOS, vocab[BOS]), (EOS, vocab[EOS])],
    )
    return tokenizer


def special_tokens_map() -> dict[str, Any]:
    return {"bos_token": BOS, "eos_token": EOS, "pad_token": EOS}


def tokenizer_config(max_positions: int) -> dict[str, Any]:
    return {
        **special_tokens_map(),
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": max_positions,
        "processor_class": "CsmProcessor",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def preprocessor_config() -> dict[str, Any]:
    return {
        "feature_extractor_type": "EncodecFeatureExtractor",
        "feature_size": 1,
        "sampling_rate": 24000,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
        "processor_class": "CsmProcessor",
    }
