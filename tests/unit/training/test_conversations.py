"""Rows as the language model reads them, and the network that reads them as transformers would."""

import numpy as np
import pytest
import torch

from training.corpus import LABEL, Utterance
from training.network import Network
from training.shape import NUM_CODEBOOKS
from training.tokens import new_tokenizer, turn_ids
from training.turns import Batch, Casting, Conversations, Phonemes, make_turn

PHONEMES = Phonemes(["h", "aI", "_"])
ANYBODY = Casting(own_voice_share=0, others=range(2, 10))


def utterance(voice: int) -> Utterance:
    """ "Hi hi." with two words of three frames and a pause."""
    word = [("h", 0, 0.25), ("aI", 0, 0.75), ("aI", 1, 0.75)]
    labels = [(*sound, start, 2, False) for start in (0, 3) for sound in word] + [("_", 0, 0.5, 5, 0, True)]
    codes = np.arange(7 * NUM_CODEBOOKS).reshape(7, NUM_CODEBOOKS) + 100 * voice
    return Utterance("Hi hi.", voice, codes.astype(np.uint8), np.array(labels, LABEL))


def batch(casting: Casting, rows: int = 4) -> Batch:
    turns = [make_turn(utterance(voice), PHONEMES) for voice in (0, 1)]
    return Conversations(turns, PHONEMES, casting).batch(np.random.default_rng(0), rows, 60, 60)


def test_a_turn_is_its_text_then_its_frames_then_an_empty_one() -> None:
    made = batch(ANYBODY)
    ids = turn_ids(new_tokenizer(), "Hi hi.", int(made.speakers[0, 0]))
    audio, end = len(ids), len(ids) + 8
    assert made.text[0, :audio].tolist() == ids and made.is_text[0, :audio].all()
    assert made.is_audio[0, audio:end].all() and not made.is_audio[0, :audio].any()
    said = utterance(int(made.voices[0, audio - 1])).codes
    assert made.codes[0, audio : end - 1].tolist() == said.tolist() and not made.codes[0, end - 1].any()
    assert made.predicts[0, audio - 1 : end - 1].all() and made.predicts[0, :end].sum() == 8
    assert (made.text[made.names_speaker] == made.text[0, 2]).any() and made.names_speaker[0, :end].sum() == 1


def test_hints_point_at_the_letters() -> None:
    made = batch(ANYBODY)
    letters = [made.text[0, first].item() for first, _ in made.hints[0, :, 1][made.classes[0] >= 0][:3]]
    i = turn_ids(new_tokenizer(), "i", 0)[4]
    assert letters == [i, i, i], "a word's end is its last letter"
    row, position = made.word_ends[0].tolist()
    assert made.text[row, position - 1] == i
    assert made.word_phonemes[0, :3].tolist() == [PHONEMES.number("h"), PHONEMES.number("aI"), len(PHONEMES)]


@pytest.mark.parametrize("alone_share", [0, 1])
def test_a_speaker_keeps_their_voice(alone_share: int) -> None:
    made = batch(Casting(0, range(10), alone_share), rows=50)
    voices_of_rows = []
    for speakers, voices in zip(made.speakers, made.voices, strict=True):
        pairs = {(s, v) for s, v in zip(speakers.tolist(), voices.tolist(), strict=True) if v >= 0}
        assert len({speaker for speaker, _ in pairs}) == len(pairs)
        voices_of_rows.append(len(pairs))
    assert max(voices_of_rows) == (1 if alone_share else 2)


def test_in_their_own_voices() -> None:
    made = batch(Casting(1, range(10)), rows=20)
    told = made.voices >= 0
    assert (made.voices[told] == made.speakers[told]).all()


def test_layer_by_layer_is_transformers_backbone() -> None:
    torch.manual_seed(0)
    network = Network(len(PHONEMES)).eval()
    embedded = network._embedded(batch(ANYBODY))
    with torch.inference_mode():
        theirs = network.csm.backbone_model(inputs_embeds=embedded).last_hidden_state
        torch.testing.assert_close(network._read(embedded).output, theirs, rtol=1e-4, atol=1e-4)


def test_every_part_of_the_model_learns() -> None:
    torch.manual_seed(0)
    network = Network(len(PHONEMES))
    loss, _ = network.losses(batch(Casting(0, range(10), 0.5)), with_voices=True)
    loss.backward()
    idle = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []
