"""Generate the German–English corpus `toy`: synthetic sentences from a small grammar, not real text.

It contains what makes word-by-word translation fail: gender and case on articles and adjectives, verb-second main
clauses and verb-final subordinate clauses, separable prefixes, participles and infinitives at the end, fronted adverbs
with inversion, negation by nicht or kein. Every German sentence has one English translation. Sentences have 4 to 15
German words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from three_regime.datasets import toy_lexicon as lexicon
from three_regime.datasets.toy_lexicon import Forms, Noun, Verb
from three_regime.random_streams import Streams

TRAIN_PAIRS = 20_000
HELD_OUT_PAIRS = {"validation": 300, "test": 300}
SHORTEST, LONGEST = 4, 15

Pair = tuple[str, str]
Choice = TypeVar("Choice")

DEFINITE = {
    "nominative": {"m": "der", "f": "die", "n": "das", "plural": "die"},
    "accusative": {"m": "den", "f": "die", "n": "das", "plural": "die"},
    "dative": {"m": "dem", "f": "der", "n": "dem", "plural": "den"},
}
EIN_ENDING = {
    "nominative": {"m": "", "f": "e", "n": "", "plural": "e"},
    "accusative": {"m": "en", "f": "e", "n": "", "plural": "e"},
    "dative": {"m": "em", "f": "er", "n": "em", "plural": "en"},
}
"""Endings of ein, kein, mein."""

CONTRACTED = {("in", "dem"): "im"}


@dataclass(frozen=True)
class Phrase:
    """A noun phrase or pronoun in both languages, and whether it takes a plural verb."""

    german: str
    english: str
    plural: bool


@dataclass(frozen=True)
class Clause:
    """The parts of a clause; `main`, `question` and `subordinate` put them in order.

    Attributes
    ----------
    finite, bracket
        The German finite verb, and the part after the middle field (prefix, participle or infinitive).
    joined
        Finite verb and bracket at the end of a subordinate clause.
    middle
        German object, negation and place.
    auxiliary, rest
        English: first auxiliary if any, and the rest of the predicate with object and place.
    plain
        English predicate without do-support and question.
    """

    subject: Phrase
    time: Forms | None
    finite: str
    bracket: str
    joined: str
    middle: str
    auxiliary: str
    rest: str
    plain: str

    def main(self, *, fronted: bool) -> Pair:
        """Verb-second; with the time adverb first if `fronted`."""
        time = self.time or Forms("", "")
        if fronted and self.time:
            german = _words(time.german, self.finite, self.subject.german, self.middle, self.bracket)
            return german, _words(time.english, self.subject.english, self.plain)
        german = _words(self.subject.german, self.finite, time.german, self.middle, self.bracket)
        return german, _words(self.subject.english, self.plain, time.english)

    def inverted(self) -> Pair:
        """Finite verb first, as after a fronted clause."""
        time = self.time or Forms("", "")
        german = _words(self.finite, self.subject.german, time.german, self.middle, self.bracket)
        return german, _words(self.subject.english, self.plain, time.english)

    def question(self) -> Pair:
        """A yes-no question, without the question mark."""
        german, _ = self.inverted()
        time = self.time.english if self.time else ""
        return german, _words(self.auxiliary, self.subject.english, self.rest, time)

    def subordinate(self) -> Pair:
        """Verb-final, without the conjunction."""
        time = self.time or Forms("", "")
        german = _words(self.subject.german, time.german, self.middle, self.joined)
        return german, _words(self.subject.english, self.plain, time.english)


def read(raw: Path, split: str) -> Iterator[Pair]:
    """Generate the German–English pairs of a split; `raw` is not used.

    The held-out sets do not depend on the number of training pairs, and no German sentence occurs in two splits.
    Training sentences may repeat.

    Parameters
    ----------
    split
        ``train``, ``validation`` or ``test``.
    """
    held_out: dict[str, list[Pair]] = {}
    taken: set[str] = set()
    for name, pairs in HELD_OUT_PAIRS.items():
        held_out[name] = []
        for pair in sentences(name):
            if pair[0] not in taken:
                taken.add(pair[0])
                held_out[name].append(pair)
            if len(held_out[name]) == pairs:
                break
    if split in held_out:
        yield from held_out[split]
        return
    left = TRAIN_PAIRS
    for pair in sentences("train"):
        if pair[0] not in taken:
            yield pair
            left -= 1
        if not left:
            return


def sentences(stream: str) -> Iterator[Pair]:
    """An infinite stream of sentence pairs that depends only on its name."""
    generator = Streams(("toy",)).generator(stream)
    while True:
        german, english = _Speaker(generator).sentence()
        if SHORTEST <= len(german.split()) <= LONGEST:
            yield german[0].upper() + german[1:], english[0].upper() + english[1:]


def _words(*parts: str) -> str:
    return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class _Speaker:
    """Draw phrases, clauses and sentences from a generator."""

    generator: np.random.Generator

    def chance(self, probability: float) -> bool:
        return bool(self.generator.random() < probability)

    def one(self, choices: Sequence[Choice]) -> Choice:
        return choices[int(self.generator.integers(len(choices)))]

    def sentence(self) -> Pair:
        kind = self.generator.random()
        if kind < 0.45:
            german, english = self.clause().main(fronted=self.chance(0.4))
        elif kind < 0.57:
            german, english = self.clause().question()
            return f"{german}?", f"{english}?"
        elif kind < 0.72:
            german, english = _joined(self.clause().main(fronted=False), self.one(lexicon.SUBORDINATORS), self.clause())
        elif kind < 0.84:
            first, then = self.one(lexicon.SUBORDINATORS), self.clause()
            before, after = self.clause().subordinate(), then.inverted()
            german = f"{first.german} {before[0]}, {after[0]}"
            english = f"{first.english} {before[1]}, {after[1]}"
        else:
            subject = self.subject()
            verb = self.one(lexicon.OPINIONS)[subject.plural]
            head = _words(subject.german, verb.german), _words(subject.english, verb.english)
            german, english = _joined(head, Forms("dass", "that"), self.clause())
        return f"{german}.", f"{english}."

    def subject(self) -> Phrase:
        if self.chance(0.3):
            pronoun, plural = self.one(lexicon.PRONOUNS)
            return Phrase(pronoun.german, pronoun.english, plural)
        return self.noun_phrase(self.one(lexicon.PEOPLE), "nominative")

    def noun_phrase(self, noun: Noun, case: str, *, negated: bool = False) -> Phrase:
        """Article or number, adjective and noun, in agreement; with kein if `negated`."""
        plural = self.chance(0.3)
        form = "plural" if plural else noun.gender
        kind = "none" if negated else self.one(("definite", "my", "number" if plural else "a"))
        ein = EIN_ENDING[case][form]
        article, english = {
            "none": (f"kein{ein}", "no"),
            "definite": (DEFINITE[case][form], "the"),
            "my": (f"mein{ein}", "my"),
            "a": (f"ein{ein}", "a"),
            "number": self.one(lexicon.NUMBERS),
        }[kind]
        adjective = self.one(lexicon.ADJECTIVES) if self.chance(0.4) else None
        german_plural = noun.german_dative_plural if case == "dative" else noun.german_plural
        german_noun = german_plural if plural else noun.german
        english_noun = noun.english_plural if plural else noun.english
        described = adjective.german + _adjective_ending(kind, case, form) if adjective else ""
        english_words = [*([adjective.english] if adjective else []), english_noun]
        if kind == "a" and english_words[0][0] in "aeiou":
            english = "an"
        return Phrase(_words(article, described, german_noun), _words(english, *english_words), plural)

    def clause(self) -> Clause:
        subject = self.subject()
        transitive = self.chance(0.7)
        verb = self.one(lexicon.TRANSITIVE if transitive else lexicon.INTRANSITIVE)
        negated = self.chance(0.15)
        kein = negated and transitive and self.chance(0.5)
        thing = self.noun_phrase(self.one(lexicon.THINGS), "accusative", negated=kein) if transitive else None
        place = self.place() if self.chance(0.3) else None
        time = self.one(lexicon.TIMES) if self.chance(0.4) else None
        nicht = negated and not kein
        middle = _words(
            thing.german if thing else "",
            "nicht" if nicht else "",
            place.german if place else "",
        )
        tail = _words(thing.english if thing else "", place.english if place else "")
        tense = self.one(("present", "present", "perfect", "modal"))
        build = {"present": _present, "perfect": _perfect, "modal": self._modal}[tense]
        german, auxiliary, core, plain = build(verb, subject.plural, nicht)
        finite, bracket, joined = german
        return Clause(
            subject, time, finite, bracket, joined, middle, auxiliary, _words(core, tail), _words(plain, tail)
        )

    def place(self) -> Forms:
        preposition = self.one(lexicon.PREPOSITIONS)
        where = self.noun_phrase(self.one(lexicon.PLACES), "dative")
        article, _, rest = where.german.partition(" ")
        contracted = CONTRACTED.get((preposition.german, article))
        german = _words(contracted, rest) if contracted else _words(preposition.german, where.german)
        return Forms(german, _words(preposition.english, where.english))

    def _modal(self, verb: Verb, plural: bool, nicht: bool) -> _Predicate:
        singular_modal, plural_modal = self.one(lexicon.MODALS)
        modal = plural_modal if plural else singular_modal
        infinitive = verb.prefix + verb.infinitive
        german = (modal.german, infinitive, f"{infinitive} {modal.german}")
        if modal.english.endswith(" to"):
            do = "do" if plural else "does"
            core = _words("not" if nicht else "", plural_modal.english, verb.english)
            return german, do, core, _words(do, core) if nicht else _words(modal.english, verb.english)
        core = _words("not" if nicht else "", verb.english)
        return german, modal.english, core, _words(modal.english, core)


_Predicate = tuple[tuple[str, str, str], str, str, str]
"""German (finite, bracket, joined); English auxiliary, the words after it in a question, and the plain predicate."""


def _present(verb: Verb, plural: bool, nicht: bool) -> _Predicate:
    finite = verb.infinitive if plural else verb.singular
    do = "do" if plural else "does"
    core = _words("not" if nicht else "", verb.english)
    plain = _words(do, core) if nicht else (verb.english if plural else verb.english_singular)
    return (finite, verb.prefix, verb.prefix + finite), do, core, plain


def _perfect(verb: Verb, plural: bool, nicht: bool) -> _Predicate:
    finite, have = ("haben", "have") if plural else ("hat", "has")
    participle = verb.prefix + verb.participle
    core = _words("not" if nicht else "", verb.english_participle)
    return (finite, participle, f"{participle} {finite}"), have, core, _words(have, core)


def _joined(head: Pair, conjunction: Forms, clause: Clause) -> Pair:
    """A main clause and a subordinate clause, separated by a comma in German."""
    german, english = clause.subordinate()
    return f"{head[0]}, {conjunction.german} {german}", f"{head[1]} {conjunction.english} {english}"


def _adjective_ending(kind: str, case: str, form: str) -> str:
    """Weak after der, mixed after ein, kein and mein, strong after a number."""
    if kind == "number":
        return "en" if case == "dative" else "e"
    if case == "dative" or form == "plural" or (case == "accusative" and form == "m"):
        return "en"
    if kind == "definite" or form == "f":
        return "e"
    return "er" if form == "m" else "es"
