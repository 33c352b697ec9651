"""The entities of the synthetic world, what can be true of them, and how that is asked and said.

Pure data. Each entity and each value is one word and belongs to one class only, so that a reader
of a response can look every word up. ``{e}`` stands for an entity, ``{v}`` and ``{w}`` for values.
"""

from dataclasses import dataclass

# The last HELD_OUT entities of every kind are the new topics: no preference training pair names them.
HELD_OUT = 6

ENTITIES = {
    "town": [
        "Tarwick",
        "Belden",
        "Corvale",
        "Dunmere",
        "Eskerly",
        "Farholm",
        "Gildon",
        "Harrowby",
        "Ilmouth",
        "Jorvin",
        "Kestwick",
        "Lorham",
        "Marbeck",
        "Norwell",
        "Oldfen",
        "Penhale",
        "Quenby",
        "Rostead",
    ],
    "person": [
        "Mira",
        "Tobin",
        "Anka",
        "Lorcan",
        "Sefa",
        "Bram",
        "Isolde",
        "Jorun",
        "Kesta",
        "Ludo",
        "Nerys",
        "Osric",
        "Petra",
        "Quill",
        "Runa",
        "Silas",
        "Tamsin",
        "Ulric",
    ],
    "animal": [
        "grelk",
        "dornet",
        "tovik",
        "marrel",
        "huskel",
        "brindet",
        "yorrel",
        "quibbet",
        "zorrin",
        "fennet",
        "larkin",
        "mossel",
        "nubbin",
        "oxlet",
        "pardet",
        "rindle",
        "skevin",
        "trundel",
    ],
    "plant": [
        "amberlin",
        "brackle",
        "cindral",
        "dewbell",
        "elvine",
        "foxmint",
        "glimwort",
        "hazelin",
        "ivorel",
        "jasperwort",
        "kelpine",
        "lumegrass",
        "mintel",
        "nettlin",
        "orchine",
        "pellwort",
        "rosmir",
        "thymel",
    ],
}

# What can be true of an entity. As many values as divide the known and the held-out entities evenly.
VALUES = {
    "colour": ("red", "blue", "green", "white", "black", "yellow"),
    "place": ("forest", "hill", "lake", "desert", "coast", "valley"),
    "food": ("honey", "bread", "fish", "nuts", "berries", "cheese"),
}


@dataclass(frozen=True, slots=True)
class Relation:
    """What can be asked about one kind of entity, and how it is asked and answered.

    ``count`` of the values of ``pool`` are true of each entity; the relations of a kind differ in
    ``pool``. ``questions`` and ``checks`` (yes or no) are the ordinary wordings, ``styled_questions`` and
    ``styled_checks`` those of the style shift.
    """

    noun: str
    kind: str
    pool: str
    questions: tuple[str, ...]
    styled_questions: tuple[str, ...]
    statements: tuple[str, ...]
    short: str
    checks: tuple[str, ...] = ()
    styled_checks: tuple[str, ...] = ()
    count: int = 1


RELATIONS = (
    Relation(
        noun="flag",
        kind="town",
        pool="colour",
        questions=("What colour is the flag of {e}?", "Which colour does the flag of {e} have?"),
        styled_questions=("hey, what is the flag of {e} like", "Kindly state the colour of the flag of {e}."),
        statements=("The flag of {e} is {v}.", "{e} has a {v} flag."),
        short="It is {v}.",
        checks=("Is the flag of {e} {v}?", "Does {e} have a {v} flag?"),
        styled_checks=("so the flag of {e} is {v}, right",),
    ),
    Relation(
        noun="site",
        kind="town",
        pool="place",
        questions=("Where does {e} lie?", "What does {e} lie near?"),
        styled_questions=("hey, where is {e}", "Kindly state where {e} lies."),
        statements=("{e} lies near the {v}.", "The town of {e} is near the {v}."),
        short="Near the {v}.",
        checks=("Does {e} lie near the {v}?", "Is {e} near the {v}?"),
        styled_checks=("so {e} lies near the {v}, right",),
    ),
    Relation(
        noun="goods",
        kind="town",
        pool="food",
        questions=("Which two things does {e} sell?", "List the two goods of {e}."),
        styled_questions=("hey, what two things do they sell in {e}", "Kindly list the goods of {e}."),
        statements=("{e} sells {v} and {w}.", "The goods of {e} are {v} and {w}."),
        short="Just {v} and {w}.",
        count=2,
    ),
    Relation(
        noun="coat",
        kind="person",
        pool="colour",
        questions=("What colour is the coat of {e}?", "Which colour does {e} wear?"),
        styled_questions=("hey, what is the coat of {e} like", "Kindly state the colour of the coat of {e}."),
        statements=("The coat of {e} is {v}.", "{e} wears a {v} coat."),
        short="It is {v}.",
        checks=("Is the coat of {e} {v}?", "Does {e} wear a {v} coat?"),
        styled_checks=("so the coat of {e} is {v}, right",),
    ),
    Relation(
        noun="house",
        kind="person",
        pool="place",
        questions=("Where does {e} live?", "What does {e} live near?"),
        styled_questions=("hey, where do I find {e}", "Kindly state where {e} lives."),
        statements=("{e} lives near the {v}.", "The house of {e} is near the {v}."),
        short="Near the {v}.",
        checks=("Does {e} live near the {v}?", "Is the house of {e} near the {v}?"),
        styled_checks=("so {e} lives near the {v}, right",),
    ),
    Relation(
        noun="meal",
        kind="person",
        pool="food",
        questions=("What does {e} like to eat?", "Which food does {e} like?"),
        styled_questions=("hey, what does {e} eat", "Kindly state the meal of {e}."),
        statements=("{e} likes to eat {v}.", "The meal of {e} is {v}."),
        short="Just {v}.",
        checks=("Does {e} like to eat {v}?", "Does {e} like {v}?"),
        styled_checks=("so {e} likes {v}, right",),
    ),
    Relation(
        noun="fur",
        kind="animal",
        pool="colour",
        questions=("What colour is the {e}?", "Which colour does the {e} have?"),
        styled_questions=("hey, what does a {e} look like", "Kindly state the colour of the {e}."),
        statements=("The {e} is {v}.", "The fur of the {e} is {v}."),
        short="It is {v}.",
        checks=("Is the {e} {v}?", "Does the {e} have {v} fur?"),
        styled_checks=("so the {e} is {v}, right",),
    ),
    Relation(
        noun="den",
        kind="animal",
        pool="place",
        questions=("Where does the {e} sleep?", "What does the {e} sleep near?"),
        styled_questions=("hey, where do I find a {e}", "Kindly state where the {e} sleeps."),
        statements=("The {e} sleeps near the {v}.", "The den of the {e} is near the {v}."),
        short="Near the {v}.",
        checks=("Does the {e} sleep near the {v}?", "Is the den of the {e} near the {v}?"),
        styled_checks=("so the {e} sleeps near the {v}, right",),
    ),
    Relation(
        noun="prey",
        kind="animal",
        pool="food",
        questions=("What does the {e} eat?", "Which food does the {e} look for?"),
        styled_questions=("hey, what does a {e} eat", "Kindly state the food of the {e}."),
        statements=("The {e} eats {v}.", "The {e} looks for {v}."),
        short="Just {v}.",
        checks=("Does the {e} eat {v}?", "Does the {e} look for {v}?"),
        styled_checks=("so the {e} eats {v}, right",),
    ),
    Relation(
        noun="flower",
        kind="plant",
        pool="colour",
        questions=("What colour are the flowers of the {e}?", "Which colour does the {e} have?"),
        styled_questions=("hey, what does a {e} look like", "Kindly state the colour of the {e}."),
        statements=("The flowers of the {e} are {v}.", "The {e} has {v} flowers."),
        short="They are {v}.",
        checks=("Are the flowers of the {e} {v}?", "Does the {e} have {v} flowers?"),
        styled_checks=("so the {e} has {v} flowers, right",),
    ),
    Relation(
        noun="spot",
        kind="plant",
        pool="place",
        questions=("Where does the {e} grow?", "What does the {e} grow near?"),
        styled_questions=("hey, where do I find a {e}", "Kindly state where the {e} grows."),
        statements=("The {e} grows near the {v}.", "The spot of the {e} is near the {v}."),
        short="Near the {v}.",
        checks=("Does the {e} grow near the {v}?", "Is the spot of the {e} near the {v}?"),
        styled_checks=("so the {e} grows near the {v}, right",),
    ),
    Relation(
        noun="taste",
        kind="plant",
        pool="food",
        questions=("What does the {e} taste of?", "Which food does the {e} taste of?"),
        styled_questions=("hey, what does a {e} taste of", "Kindly state the taste of the {e}."),
        statements=("The {e} tastes of {v}.", "The taste of the {e} is like {v}."),
        short="Just {v}.",
        checks=("Does the {e} taste of {v}?", "Is the taste of the {e} like {v}?"),
        styled_checks=("so the {e} tastes of {v}, right",),
    ),
)
