"""What the voices say while the models learn: words of Debian's lists, in sentences that need no sense."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

_FOLDER = Path("/usr/share/dict/scowl")
_LISTS = (10, 20, 35)
"""SCOWL's sizes; the smaller, the commoner the words."""
_SHARES = (45, 30, 25)

TEST_TEXTS = Path(__file__).parent / "test_texts"


def _listed(text: str) -> list[str]:
    return text.split()


_FUNCTION_WORDS = _listed("""
the of and to in a is that for it as was with be by on not he his but at are this have from or had an they which
one you were her all she there would their we him been has when who will more no if out so said what up its
about into than them can only other new some could time these two may then do first any my now such like our
over me even most made after also did many before must through back years where much your way well down should
because each just those people how too little good very make world still see own men work long here get both
between being under never same another know while last might us great old year off come since against go came
right used take three its don't can't it's I'm isn't you're we'll that's I I I say
""")
_NUMBERS = _listed("""
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million
""")
_WHO = ("I", "you", "we", "they", "she", "he", "the teacher", "my friend", "the doctor", "our neighbor", "a stranger")
_DID = _listed("""
found bought lost painted carried wanted forgot opened followed described borrowed liked saw heard sold
""")
_FORMS = (
    "{who} {did} the {0} {1}",
    "did {who} see the {0} {1} of {2}",
    "I think {who} {did} {0} {1}",
    "what a {0} {1}",
    "where is the {0}",
    "the {0} is {1} and {2}",
    "please say {0} again",
    "{who} {did} it with a {0} {1} in the {2}",
    "do you want {0} or {1}",
    "how do we {0} the {1}",
)
_QUESTIONS = ("did", "where", "do", "how")


def read_lines(name: str) -> list[str]:
    """The lines of one of the test texts."""
    return (TEST_TEXTS / name).read_text().splitlines()


def word_lists() -> list[list[str]]:
    """The words of each list, without those that are kept for the test. Raises FileNotFoundError without `scowl`."""
    kept_back = set(read_lines("words_never_met.txt"))
    return [sorted(_words(size) - kept_back) for size in _LISTS]


def all_words() -> list[str]:
    """Every word that a sentence may hold, in lower case."""
    return sorted({word for words in word_lists() for word in words} | {w.lower() for w in _FUNCTION_WORDS + _NUMBERS})


def _words(size: int) -> set[str]:
    lines = (_FOLDER / f"english-words.{size}").read_text(encoding="latin-1").splitlines()
    return {word for word in lines if re.fullmatch("[a-z]{2,14}", word)}


class Sentences:
    """An endless row of sentences of 1 to 24 words. Rare words come round as evenly as common ones within a list."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._lists = word_lists()
        self._decks: list[list[str]] = [[] for _ in self._lists]
        self._test_sentences = {_bare(line) for line in read_lines("sentences.txt")}

    def __iter__(self) -> Iterator[str]:
        while True:
            text = self._form() if self._random.random() < 0.2 else self._salad()
            if _bare(text) not in self._test_sentences:
                yield text

    def _form(self) -> str:
        words = [self._rare_word() for _ in range(3)]
        pick = self._random.choice
        text = pick(_FORMS).format(*words, who=pick(_WHO), did=pick(_DID))
        return self._closed(text, text.split()[0] in _QUESTIONS)

    def _salad(self) -> str:
        draw = self._random
        lengths = (1, 2, 3, draw.randint(4, 8), draw.randint(9, 14), draw.randint(15, 24))
        length = draw.choices(lengths, (10, 10, 10, 40, 20, 10))[0]
        words = [self._word() for _ in range(length)]
        for place in range(1, length - 1):
            if draw.random() < 0.07:
                words[place] += ","
        return self._closed(" ".join(words), draw.random() < 0.2)

    def _closed(self, text: str, question: bool) -> str:
        mark = "?" if question else self._random.choices((".", "!", ""), (80, 8, 12))[0]
        return text[0].upper() + text[1:] + mark

    def _word(self) -> str:
        chance = self._random.random()
        if chance < 0.38:
            return self._random.choice(_FUNCTION_WORDS)
        return self._random.choice(_NUMBERS) if chance < 0.42 else self._rare_word()

    def _rare_word(self) -> str:
        number = self._random.choices(range(len(_LISTS)), _SHARES)[0]
        if not self._decks[number]:
            self._decks[number] = self._lists[number].copy()
            self._random.shuffle(self._decks[number])
        return self._decks[number].pop()


def _bare(text: str) -> str:
    return " ".join(re.findall(r"[a-z']+", text.lower()))
