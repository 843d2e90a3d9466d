"""Vocabulary of the generated corpus `toy`: about 60 lemmas with the forms its grammar needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Forms(NamedTuple):
    """One meaning in both languages, in a form that does not change."""

    german: str
    english: str


@dataclass(frozen=True)
class Noun:
    """A noun; `gender` is m, f or n. Only strong nouns: singular forms are the same in all cases used here."""

    gender: str
    german: str
    german_plural: str
    english: str
    english_plural: str

    @property
    def german_dative_plural(self) -> str:
        """The plural, with the -n of the dative unless it ends in -n or -s."""
        return self.german_plural + ("" if self.german_plural.endswith(("n", "s")) else "n")


@dataclass(frozen=True)
class Verb:
    """A verb with its perfect in haben.

    Attributes
    ----------
    prefix
        Separable prefix, at the end of a main clause; empty for most verbs.
    infinitive, singular, participle
        German forms without the prefix, third person.
    english, english_singular, english_participle
        English forms.
    """

    prefix: str
    infinitive: str
    singular: str
    participle: str
    english: str
    english_singular: str
    english_participle: str


PEOPLE = (
    Noun("m", "Mann", "Männer", "man", "men"),
    Noun("m", "Lehrer", "Lehrer", "teacher", "teachers"),
    Noun("m", "Arzt", "Ärzte", "doctor", "doctors"),
    Noun("m", "Freund", "Freunde", "friend", "friends"),
    Noun("f", "Frau", "Frauen", "woman", "women"),
    Noun("f", "Schwester", "Schwestern", "sister", "sisters"),
    Noun("f", "Königin", "Königinnen", "queen", "queens"),
    Noun("n", "Kind", "Kinder", "child", "children"),
    Noun("n", "Mädchen", "Mädchen", "girl", "girls"),
    Noun("m", "Hund", "Hunde", "dog", "dogs"),
    Noun("f", "Katze", "Katzen", "cat", "cats"),
    Noun("n", "Pferd", "Pferde", "horse", "horses"),
)
"""Nouns that can be subjects."""

THINGS = (
    Noun("m", "Apfel", "Äpfel", "apple", "apples"),
    Noun("m", "Schlüssel", "Schlüssel", "key", "keys"),
    Noun("m", "Stuhl", "Stühle", "chair", "chairs"),
    Noun("f", "Blume", "Blumen", "flower", "flowers"),
    Noun("f", "Lampe", "Lampen", "lamp", "lamps"),
    Noun("f", "Zeitung", "Zeitungen", "newspaper", "newspapers"),
    Noun("n", "Buch", "Bücher", "book", "books"),
    Noun("n", "Fahrrad", "Fahrräder", "bicycle", "bicycles"),
    Noun("n", "Bild", "Bilder", "picture", "pictures"),
    Noun("m", "Brief", "Briefe", "letter", "letters"),
)
"""Nouns that can be objects."""

PLACES = (
    Noun("m", "Garten", "Gärten", "garden", "gardens"),
    Noun("m", "Wald", "Wälder", "forest", "forests"),
    Noun("f", "Stadt", "Städte", "town", "towns"),
    Noun("f", "Kirche", "Kirchen", "church", "churches"),
    Noun("n", "Haus", "Häuser", "house", "houses"),
    Noun("n", "Zimmer", "Zimmer", "room", "rooms"),
)
"""Nouns for places."""

TRANSITIVE = (
    Verb("", "sehen", "sieht", "gesehen", "see", "sees", "seen"),
    Verb("", "suchen", "sucht", "gesucht", "look for", "looks for", "looked for"),
    Verb("", "finden", "findet", "gefunden", "find", "finds", "found"),
    Verb("", "kaufen", "kauft", "gekauft", "buy", "buys", "bought"),
    Verb("", "nehmen", "nimmt", "genommen", "take", "takes", "taken"),
    Verb("", "malen", "malt", "gemalt", "paint", "paints", "painted"),
    Verb("mit", "bringen", "bringt", "gebracht", "bring along", "brings along", "brought along"),
    Verb("an", "schauen", "schaut", "geschaut", "look at", "looks at", "looked at"),
    Verb("auf", "heben", "hebt", "gehoben", "pick up", "picks up", "picked up"),
)
"""Verbs with an accusative object."""

INTRANSITIVE = (
    Verb("", "schlafen", "schläft", "geschlafen", "sleep", "sleeps", "slept"),
    Verb("", "arbeiten", "arbeitet", "gearbeitet", "work", "works", "worked"),
    Verb("", "singen", "singt", "gesungen", "sing", "sings", "sung"),
    Verb("", "lachen", "lacht", "gelacht", "laugh", "laughs", "laughed"),
    Verb("", "spielen", "spielt", "gespielt", "play", "plays", "played"),
    Verb("zu", "hören", "hört", "gehört", "listen", "listens", "listened"),
    Verb("aus", "ruhen", "ruht", "geruht", "rest", "rests", "rested"),
)
"""Verbs without an object."""

MODALS = (
    (Forms("kann", "can"), Forms("können", "can")),
    (Forms("muss", "has to"), Forms("müssen", "have to")),
    (Forms("will", "wants to"), Forms("wollen", "want to")),
    (Forms("soll", "should"), Forms("sollen", "should")),
)
"""Modal verbs: third person singular, plural."""

ADJECTIVES = (
    Forms("klein", "small"),
    Forms("groß", "big"),
    Forms("alt", "old"),
    Forms("neu", "new"),
    Forms("schön", "beautiful"),
    Forms("rot", "red"),
    Forms("grün", "green"),
    Forms("müd", "tired"),
    Forms("klug", "clever"),
    Forms("fremd", "foreign"),
)
"""Stems; an ending is always added."""

NUMBERS = (
    Forms("zwei", "two"),
    Forms("drei", "three"),
    Forms("vier", "four"),
    Forms("fünf", "five"),
    Forms("sieben", "seven"),
    Forms("zwölf", "twelve"),
)

TIMES = (
    Forms("heute", "today"),
    Forms("jetzt", "now"),
    Forms("oft", "often"),
    Forms("manchmal", "sometimes"),
    Forms("abends", "in the evening"),
    Forms("immer wieder", "again and again"),
)

PREPOSITIONS = (
    Forms("in", "in"),
    Forms("vor", "in front of"),
    Forms("hinter", "behind"),
    Forms("neben", "next to"),
)
"""Prepositions with the dative: location, not direction."""

SUBORDINATORS = (
    Forms("weil", "because"),
    Forms("wenn", "when"),
    Forms("obwohl", "although"),
    Forms("während", "while"),
)

OPINIONS = (
    (Forms("glaubt", "believes"), Forms("glauben", "believe")),
    (Forms("weiß", "knows"), Forms("wissen", "know")),
    (Forms("sagt", "says"), Forms("sagen", "say")),
)
"""Verbs that govern a clause with dass: third person singular, plural."""

PRONOUNS = (
    (Forms("er", "he"), False),
    (Forms("sie", "she"), False),
    (Forms("wir", "we"), True),
    (Forms("sie", "they"), True),
)
"""Subject pronouns, and whether they are plural; the verb distinguishes the two spelt sie."""
