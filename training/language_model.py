"""Step 3: a small CSM on the corpus. `python -m training.language_model --folder build/demo-voice`"""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CsmForConditionalGeneration

from training.command import folder_argument
from training.corpus import read_corpus
from training.espeak import Espeak
from training.network import Network
from training.shape import csm_config
from training.steps import Figures, is_finished, resumable_steps, warm_then_fall
from training.texts import all_words
from training.turns import Casting, Conversations, Phonemes, WordLists, make_turn

LETTER_STEPS, _LETTER_RATE, _LETTER_ROWS, _LETTER_POSITIONS = 2000, 2e-3, 24, 96
_LETTERS, _WORDS = "letters.pt", "words.json"
_ROWS = 8

log = logging.getLogger("training")


@dataclass(frozen=True, slots=True)
class _Stage:
    file: str
    seed: int
    steps: int
    rate: float
    hold: float
    """The share of all steps in which the learning rate does not fall yet."""
    curriculum: tuple[tuple[float, int, int], ...]
    """Until which share of all steps: positions of a row, and of its turns at most."""
    casting: Casting
    with_voices: bool = False


_SPEECH = _Stage(
    "speech.pt",
    seed=2,
    steps=5000,
    rate=2e-3,
    hold=0.5,
    curriculum=((0.06, 200, 40), (0.15, 200, 70), (0.5, 200, 200), (1.0, 384, 320)),
    casting=Casting(own_voice_share=0.85, others=range(2, 10)),
)
"""What to say."""
_VOICES = _Stage(
    "voices.pt",
    seed=3,
    steps=900,
    rate=1e-3,
    hold=0.4,
    curriculum=((0.6, 200, 60), (1.0, 384, 320)),
    casting=Casting(own_voice_share=0.3, others=range(10), alone_share=0.5),
    with_voices=True,
)
"""In whose voice: whoever spoke in the context goes on in the same one."""


def trained_model(folder: Path) -> CsmForConditionalGeneration:
    """The helpers are left out."""
    state = torch.load(folder / _VOICES.file)["network"]
    csm = CsmForConditionalGeneration(csm_config())
    csm.load_state_dict({name[4:]: tensor for name, tensor in state.items() if name.startswith("csm.")})
    return csm.eval()


def train(folder: Path) -> None:
    if is_finished(folder / _VOICES.file, _VOICES.steps):
        return
    words = _pronunciations(folder / _WORDS)
    log.info("language model: reading the corpus")
    utterances = list(read_corpus(folder))
    names = {str(name) for utterance in utterances for name in np.unique(utterance.labels["phoneme"])}
    phonemes = Phonemes(names.union(*words.values()))
    turns = [make_turn(utterance, phonemes) for utterance in utterances]
    torch.manual_seed(0)
    network = Network(len(phonemes))
    _learn_letters(network, phonemes, words, folder / _LETTERS)
    for stage in (_SPEECH, _VOICES):
        _learn(network, Conversations(turns, phonemes, stage.casting), stage, folder / stage.file)


def _pronunciations(file: Path) -> dict[str, list[str]]:
    """Every word's phonemes, spoken alone."""
    if not file.exists():
        log.info("language model: asking how %d words are said", len(all_words()))
        espeak = Espeak(words_a_minute=300)
        words = {word: [p.name for p in espeak.speak(word, 0)[1] if not p.is_pause] for word in all_words()}
        file.write_text(json.dumps(words))
    return json.loads(file.read_text())


def _learn_letters(network: Network, phonemes: Phonemes, words: dict[str, list[str]], file: Path) -> None:
    """How words are said, by the lowest layers and from text alone: cheap, and it need not be learnt from sound."""
    parameters = network.letter_parameters()
    optimizer, figures = _optimizer(parameters, _LETTER_RATE), Figures()
    lists = WordLists({word: [phonemes.number(name) for name in names] for word, names in words.items()}, phonemes)
    for step in resumable_steps(file, {"network": network, "optimizer": optimizer}, LETTER_STEPS, figures):
        _set_rate(optimizer, _LETTER_RATE * warm_then_fall(step, LETTER_STEPS, hold=0.3))
        text, ends, wanted = lists.batch(np.random.default_rng((1, step)), _LETTER_ROWS, _LETTER_POSITIONS)
        logits = network.word_logits(text, ends)
        loss = functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        _step(optimizer, loss, parameters)
        right = (logits.argmax(-1) == wanted).all(1).float().mean()
        figures.add({"letters": loss.item(), "words right": right.item()})


def _learn(network: Network, conversations: Conversations, stage: _Stage, file: Path) -> None:
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer, figures = _optimizer(parameters, stage.rate), Figures()
    for step in resumable_steps(file, {"network": network, "optimizer": optimizer}, stage.steps, figures):
        _set_rate(optimizer, stage.rate * warm_then_fall(step, stage.steps, stage.hold))
        positions, longest = next(sizes for until, *sizes in stage.curriculum if step < until * stage.steps)
        batch = conversations.batch(np.random.default_rng((stage.seed, step)), _ROWS, positions, longest)
        loss, parts = network.losses(batch, stage.with_voices)
        _step(optimizer, loss, parameters)
        figures.add(parts)


def _optimizer(parameters: Iterable[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": 0.05},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, rate, betas=(0.9, 0.95))


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _step(optimizer: torch.optim.Optimizer, loss: Tensor, parameters: Iterable[nn.Parameter]) -> None:
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


if __name__ == "__main__":
    train(folder_argument(__doc__))
