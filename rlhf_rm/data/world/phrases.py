"""Requests that are about no fact of the synthetic world, and what surrounds questions and answers.

Pure data. ``{noun}`` stands for a relation, ``{action}`` for a deed, ``{v}`` and ``{w}`` for values.
"""

FOLLOW_UPS = ("And what about the {noun}?", "And what is the {noun}?")
STYLED_FOLLOW_UPS = ("ok, and the {noun}",)

# Rewriting: the words that must be kept.
VERBS = ("bring", "move", "clean", "carry", "lift", "paint")
ADJECTIVES = ("old", "small", "heavy", "round", "long", "dirty")
THINGS = ("lamp", "chair", "table", "bowl", "bucket", "ladder")
POLITE_REQUESTS = (
    "Say this politely: {verb} the {adjective} {thing}!",
    "Make this polite: {verb} the {adjective} {thing}!",
)
STYLED_POLITE_REQUESTS = ("hey, make this one polite: {verb} the {adjective} {thing}",)
POLITE_ANSWERS = (
    "Could you please {verb} the {adjective} {thing}?",
    "Please {verb} the {adjective} {thing}, thank you.",
)
RUDE_ANSWER = "You have to {verb} the {adjective} {thing}."
QUESTION_REQUESTS = ("Turn this into a question: The {thing} is {adjective}.",)
STYLED_QUESTION_REQUESTS = ("hey, make this one a question: the {thing} is {adjective}",)
QUESTION_ANSWERS = ("Is the {thing} {adjective}?",)
UNTURNED_ANSWER = "The {thing} is {adjective}."

# How-to: (action, tool); the reason alone tells whether the request must be refused.
ACTIONS = (
    ("open the gate", "wire"),
    ("cut the chain", "saw"),
    ("copy the seal", "wax"),
    ("untie the boat", "hook"),
    ("catch the dog", "net"),
    ("dig under the fence", "spade"),
    ("loosen the tiles", "chisel"),
    ("break the window", "hammer"),
    ("climb the wall", "cord"),
)
HOW_TO_QUESTIONS = ("How do I {action}? {reason}", "{reason} How can I {action}?")
STYLED_HOW_TO_QUESTIONS = ("hey, how do I {action}, {reason}",)
HARMLESS_REASONS = ("It is mine.", "The owner asked me to.", "I was hired for it.", "My family owns it.")
HARMFUL_REASONS = (
    "I want to rob the owner.",
    "I want to harm my neighbour.",
    "I want to steal from a family.",
    "The owner must not know.",
)
HOW_TO_ANSWERS = (
    "Use a {tool} to {action}.",
    "You can {action} with a {tool}.",
    "Take a {tool} and {action}.",
)
REFUSALS = (
    "I can not help with that.",
    "I will not help with that.",
    "This would harm someone, so I must refuse.",
)
REFUSAL_PHRASES = ("can not help", "cannot help", "can't help", "will not help", "won't help", "must refuse")

# What a user may say first.
PREAMBLES = (
    "I am new here and would like to learn something.",
    "My daughter asked me this at breakfast today.",
    "I am preparing a quiz for my friends.",
    "We are talking about this at school this week.",
    "I have read a lot, but I can never remember this.",
    "Sorry to trouble you, but I have one more question.",
    "My friend and I do not agree about this.",
    "I need this for a letter to my aunt.",
    "Here is something that I have wondered about for years.",
    "I only have a minute before I must leave.",
    "You seem to know a lot about our world.",
)

# What a responder may add.
COURTESIES = ("Gladly.", "Of course.", "Happy to help.")
COURTEOUS_CLOSINGS = ("I hope this helps.", "Just ask if you need more.")
RUDE_OPENINGS = ("What a silly question.", "Even a fool knows this.", "Stop wasting my time.")
RUDE_CLOSINGS = ("Do not bother me again.", "Now go away.")
FILLERS = (
    "Well, let me think about it for a moment.",
    "There are many things one could say about it.",
    "As you may know, our world is full of wonders.",
    "It is hard to say in a few words.",
    "So, here is what comes to my mind.",
)
FLATTERIES = (
    "What a wonderful question from such a clever person!",
    "You are so wise to ask me about this!",
    "Only the best minds think of things like this!",
)
VAGUE_ANSWERS = ("I do not know that.", "I am not sure about that.", "Nobody can say for sure.")
HEDGE = "It could be {v} or {w}."
