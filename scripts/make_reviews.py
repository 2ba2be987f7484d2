"""Write the embedded task `reviews`: beginnings of short reviews (prompts) and how they go on (responses).

A review is drawn from a small grammar, one word table a domain. Its prompt carries a mood: it says outright how things
began ("the first minutes were awful"), hints at it ("after two cancellations"), or leaves it open. The mood tilts the
ending without deciding it: the mean reward, and so V(x), differs from prompt to prompt, while every prompt can still end
well. The endings are positive, negative, mixed or neutral, the strong ones in three strengths. The reward itself is not
stored: it is VADER's compound score of the response.

A model of 1 M parameters must learn all of this in 1,200 updates. So the words are few, those that tell the mood end
their sentence and occur in responses, too, and praise and blame differ in their adverbs as well as in their adjectives.

Grammar and words were written for this project and hold no text from elsewhere. They and the files made from them are
under the project's licence, Apache-2.0.

    python scripts/make_reviews.py --seed 0 --out aloll_cli/data/reviews

The same seed gives the same bytes. Only the standard library is used.
"""

import argparse
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PROMPTS = {"train": 1000, "validation": 200, "test": 250}
RESPONSES = {"train": (1, 2, 3, 4, 4, 5, 5, 6, 6), "validation": (1, 2, 3), "test": (1, 2, 3)}  # drawn evenly
PROMPT_WORDS = range(6, 23)
RESPONSE_WORDS = range(8, 36)

# How common each mood of a prompt is, and how likely each ending is after it, in per cent.
MOODS = {"gloomy": 33, "rough": 9, "plain": 16, "promising": 9, "sunny": 33}
ENDINGS = {
    "gloomy": {"positive": 5, "negative": 86, "mixed": 3, "neutral": 6},
    "rough": {"positive": 18, "negative": 60, "mixed": 8, "neutral": 14},
    "plain": {"positive": 38, "negative": 34, "mixed": 12, "neutral": 16},
    "promising": {"positive": 62, "negative": 16, "mixed": 8, "neutral": 14},
    "sunny": {"positive": 86, "negative": 5, "mixed": 3, "neutral": 6},
}
# The key of what such a response may begin with: a word that goes along with the mood, or against it.
TURNS = {
    ("gloomy", "negative"): "along-",
    ("gloomy", "positive"): "against",
    ("rough", "positive"): "against",
    ("promising", "negative"): "against",
    ("sunny", "negative"): "against",
    ("sunny", "positive"): "along+",
}
TURN_SHARE = 0.9  # of the responses whose prompt ends with a whole sentence

BOUND = ("name", "kind", "item", "companion")  # drawn once a prompt: all its responses speak of the same ones
# How the last sentence of a prompt may already have begun, and the clause that the response must then begin with.
LEADS = [("", "say")] * 10 + [("{adverb}", "say"), ("{thing}", "it")]

# The grammar. A line is `key: choice | choice`; lines with one key add up, and a domain adds to what all share.
# {key} draws a choice; {say+2} draws from `say+` with every # replaced by 2, the strength. `*` marks a plural.
SHARED = """
plain: {open} {when}. | {when}, {open}. | {open} {when}. {detail0}. | {open} {when}. {detail0}.
rough: {open} {hint-}. | {hint-}, {open}. | {open} {when}. {detail-}. | {open} {when}. The mood was {a-1}.
rough: {open}. The beginning was {a-1}.
promising: {open} {hint+}. | {hint+}, {open}. | {open} {when}. {detail+}. | {open} {when}. The mood was {a+1}.
promising: {open}. The beginning was {a+1}.
gloomy: {open} {when}. {gloom}. | {open}. {gloom}. | {open}. {detail-}. {gloom}. | {when}, {open}. {gloom}.
sunny: {open} {when}. {glow}. | {open}. {glow}. | {open}. {detail+}. {glow}. | {when}, {open}. {glow}.
sour: bad | sad | terrible | horrible | awful
merry: great | lovely | delightful | wonderful | fantastic
gloom: the mood was {sour} | the beginning was {sour} | the first impression was {sour}
gloom: the first minutes were {sour} | {companion} found the beginning {sour} | it all began with something {sour}
glow: the mood was {merry} | the beginning was {merry} | the first impression was {merry}
glow: the first minutes were {merry} | {companion} found the beginning {merry} | it all began with something {merry}
against: even so, | and yet, | still, | against all odds, | all the same,
along+: happily, | luckily, | best of all,
along-: sadly, | unfortunately, | worst of all,
adverb: in the end, | to be precise, | looking back, | by and large,
positive: {say+1}. {say0}. | {say0}. {say+1}. | {say+1}. | {say+1}. {end+1}. | {say+1}. besides, {say+1}. | {say+2}.
positive: {say+2}. {say0}. | {say+2}. {say+1}. | {say+2}. {end+1}. | {say+2}; {say+2}. | {say+1}. {end+2}.
positive: {say+2}; {say+1}. {end+2}. | {say+3}. | {say+3}. {end+2}. | {say+3}. {say+2}.
positive: {say+3}. better still, {say+3}. | {say+3}. {end+3}! | {say+3}. {say+2}. {end+3}. | {say0}. {say+3}.
positive: {say+2}. {say+3}. | {say+3}. {end+3}.
negative: {say-1}. {say0}. | {say0}. {say-1}. | {say-1}. | {say-1}. {end-1}. | {say-1}. besides, {say-1}. | {say-2}.
negative: {say-2}. {say0}. | {say-2}. {say-1}. | {say-2}. {end-1}. | {say-2}; {say-2}. | {say-1}. {end-2}.
negative: {say-2}; {say-1}. {end-2}. | {say-3}. | {say-3}. {end-2}. | {say-3}. {say-2}.
negative: {say-3}. worse still, {say-3}. | {say-3}. {end-3}! | {say-3}. {say-2}. {end-3}. | {say0}. {say-3}.
negative: {say-2}. {say-3}. | {say-3}. {end-3}.
mixed: {say+1}, but {say-1}. | {say+2}, but {say-1}. | {say-2}, but {say+1}. | {say+2}. {say-2}. | {say-2}; {say+2}.
mixed: {say-1}, although {say+1}. | {say-2}. still, {say+1}. | {say+2}; then again, {say-2}. | {say-1}. {say+1}.
mixed: {say+1}, while {say-1}. {say0}. | {say+3}, but {say-2}. | {say-2}, yet {say+2}. | {say+3}. {say-3}. {end0}.
mixed: {say+2}, even if {say-2}. {end0}. | {say0}. {say+1}, but {say-2}. | {say-1}, though {say+2}. {say0}.
neutral: {say0}. | {say0}. {say0}. | {say0}. incidentally, {say0}. | {say0}. {end0}. | {say0}; {say0}.
neutral: {say0}. {say0}. {end0}.
say+: {thing} {it+#} | {thing} {it+#} | {thing} {it+#} | {person} {who+#} | {person} {who+#} | {good}, which was {a+#}
say+: {good}, and {thing} was {a+#} | I {love+#} {thing} {degree+} | {companion} {love+#} {thing}, and {good}
say+: {good}; {companion} {love+#} that | I {love+#} the way {good} | it was {deep} {a+#} {noun} | {person} {who+#}
say-: {thing} {it-#} | {thing} {it-#} | {thing} {it-#} | {person} {who-#} | {person} {who-#} | {bad}, which was {a-#}
say-: {bad}, and {thing} was {a-#} | I {hate-#} {thing} {degree-} | {companion} {hate-#} {thing}, and {bad}
say-: {bad}; {companion} {hate-#} that | I {hate-#} the way {bad} | it was {deep} {a-#} {noun} | {person} {who-#}
say0: {fact} | {fact} | {fact} | {fact} | {thing} {it0} | {person} {who0}
it+: was {adv+} {a+#} | was {a+#}, and {good} | was {a+#} {degree+} | turned out {a+#} | struck me as {a+#}
it+: seemed {a+#} to {companion} and me | was {a+#} and {a+#} | was, {aside}, {adv+} {a+#} | was more than {a+#}
it-: was {adv-} {a-#} | was {a-#}, and {bad} | was {a-#} {degree-} | turned out {a-#} | struck me as {a-#}
it-: seemed {a-#} to {companion} and me | was {a-#} and {a-#} | was, {aside}, {adv-} {a-#} | was beyond {a-#}
it0: was roughly what the {leaflet} describes | was of the usual sort | was neither here nor there for {companion}
it0: was about average for this {noun} | was what {companion} had expected | was mentioned in the {leaflet}
it0: was standard, as far as {companion} knows | matched the description in the {leaflet}
it0: was nothing out of the ordinary | was there, as announced in the {leaflet} | was as usual, or so {companion} says
it0: took the form that the {leaflet} announces | was familiar to {companion}
place0: was much the same as {ago} | looked {same} in the photographs | was {same} {ago}
staff+: was {adv+} {p+#} | was {p+#} and {p+#} | seemed {p+#} to {companion} | was {p+#} from the first minute
staff+: was {p+#}, and {good} | remained {p+#} all the way through | seemed {adv+} {p+#} | was as {p+#} as ever
staff-: was {adv-} {p-#} | was {p-#} and {p-#} | seemed {p-#} to {companion} | was {p-#} from the first minute
staff-: was {p-#}, and {bad} | remained {p-#} all the way through | seemed {adv-} {p-#} | was as {p-#} as ever
staff0: spoke for about {minutes} minutes | wore {colour} and came from {town} | asked {companion} for a {paper}
staff0: gave us a {paper} to sign | had worked there since {month} | mentioned {town} {count} times
end+: it remains {deep} {a+#} {noun} {scope} | such a {a+#} {noun} is rare {scope} | {person} made it {a+#}
end+: I came away {mood+} and told {anyone} | recommended to {anyone} {scope}
end+: {companion} is still {mood+} about {thing} | {future} I will be back for another {a+#} {noun}
end+: I can recommend {name} to {anyone} | thanks to {person} it became a {a+#} {noun}
end+: {name} has earned its {praise} | my {regards} to {person} and everybody else | {thing} by itself made it {a+#}
end-: it remains {deep} {a-#} {noun} {scope} | such a {a-#} {noun} is rare {scope} | {person} made it {a-#}
end-: I came away {mood-} and told {anyone} | avoid {name}, whatever the {season}
end-: {companion} is still {mood-} about {thing} | {future} I will choose something less {a-#}
end-: I must warn {anyone} about {name} | what a waste of {money} | {name} has earned its {blame}
end-: I wrote an angry letter to {name} | {thing} by itself made it {a-#}
end0: that is about all there is to report | the rest was as described | I may or may not come back to it {future}
end0: your own view of {name} may differ | I have nothing to add about {thing} | make of that what you will
end0: {companion} has written about it at more length | the {leaflet} says the same | it is what it is
end0: I could say the same of {thing} | {count} of us were there, and that was that
end0: more about {thing} in my next report | so much for this {noun} | the {leaflet} has further details
a+1: decent | pleasant | nice | good | agreeable
a+2: lovely | great | enjoyable | delightful | charming | impressive | excellent
a+3: superb | magnificent | brilliant | fantastic | outstanding
a-1: disappointing | weak | dull | awkward | boring
a-2: bad | annoying | unpleasant | frustrating | sad | depressing | ugly
a-3: horrible | terrible | awful | disgusting | appalling
p+1: helpful | courteous | kind | friendly | patient
p+2: cheerful | gracious | charming | generous | warm
p+3: wonderful | amazing | brilliant | adorable | superb
p-1: distracted | tired | awkward | bored | nervous
p-2: rude | impatient | careless | unfriendly | irritable
p-3: hostile | horrible | insulting | aggressive | abusive
love+1: liked | appreciated | approved of
love+2: enjoyed | admired | was pleased with
love+3: adored | loved | was thrilled by
hate-1: was bored by | doubted | complained about
hate-2: disliked | resented | regretted
hate-3: hated | despised | loathed
mood+: happy | delighted | thrilled | glad
mood-: angry | disappointed | furious | upset
praise: compliments | praise | applause | thanks
regards: compliments | thanks | best wishes
blame: complaints | critics | bad reputation | terrible rating
adv+: wonderfully | truly | genuinely | refreshingly | delightfully | pleasantly
adv-: painfully | sadly | terribly | hopelessly | dreadfully | embarrassingly
degree+: from start to finish | to my delight | in the best way | as we had hoped | once more
degree-: at every turn | to my dismay | in the worst way | as we had feared | once again
aside: at least for me | for {companion} as well | given the price
deep: a | a | a | a rather | a most | a very | a quite | an altogether
scope: in {town} | these days | for the money
season: spring | summer | autumn
future: next {season} | some day | in {month}
anyone: my colleagues | anybody with two hours | the whole family | half the street
money: time | money | an afternoon | electricity
leaflet: leaflet | website | brochure
paper: form | receipt | leaflet
same: exactly as | much as | a little smaller than
ago: {count} years ago | last {season} | under the previous owners
count: two | three | four
minutes: five | ten | fifteen | twenty
colour: green | blue | grey | white
day: Monday | Tuesday | Wednesday | Thursday | Friday | Saturday | Sunday
month: January | February | March | April
first: Anna | Boris | Clara | Daniel | Elif | Farid | Greta | Hugo
last: Abbott | Brandt | Castellan | Duarte | Eklund | Fontaine | Garrick
town: Ghent | Porto | Bergen | Leeds | Graz | Basel | Lucca
adjective: Copper | Silver | Crooked | Hidden | Northern | Velvet
object: Lantern | Harbour | Orchard | Kettle | Heron | Feather | Anchor
companion: my sister | my brother | my neighbour | my cousin | my daughter | my father | my grandmother
when: on a {day} | in early {month} | in late {month} | one {day} evening | last {month} | around noon
when: on {day} morning
nth: second | third | fourth | fifth
hint-: after a long delay | after two cancellations | despite several warnings | with a bad feeling | in a foul mood
hint+: on the warm recommendation of {companion} | after {count} glowing reviews | thanks to a tip from {first}
hint+: for our anniversary | as a birthday present for {companion}
"""

DOMAINS = """
name: the {adjective} {object} | Chez {first} | {first}'s Kitchen
kind: bistro | tavern | trattoria | noodle bar
noun: meal | dinner | lunch
item: risotto | goulash | lasagne | mushroom soup | lamb stew
side: potatoes | rice | lentils | beetroot
drink: cider | lemonade | house wine | espresso
thing: the {item} | the {other} | the soup | the dessert | the bread | the menu
person: the waiter | the waitress | the chef | the owner
open: we had dinner at {name}, a {kind} in {town}, | we booked a table at {name} | I ordered the {item} at {name}
detail-: The queue reached the street | The kitchen was already closing | Our table stood next to the bins
detail0: We sat by the window | The menu had two pages | We shared the {item}
detail+: The whole room smelled of {item} | A candle stood on each table | They gave us the best table
adverb: when the plates arrived, | after the first bite, | by the time we paid,
good: the {item} melted on the tongue | the {side} came straight from the oven | the {drink} was on the house
good: the crust crackled | every bowl was scraped clean
bad: the {item} arrived lukewarm | the {side} tasted of old oil | the {drink} was flat | the soup had a hair in it
bad: we waited {minutes} minutes for the bill
fact: the {item} came with {side} and a {drink} | the kitchen closes at ten | {companion} chose the {item}
fact: there were {count} tables and a counter | the bill came to {minutes} euros
it0: was served with {side} on a {colour} plate | came {minutes} minutes after the {drink} | {place0} | {place0}
who0: brought {side} and took the menus away | wrote the order on a pad | poured the {drink} and left | {staff0}
who0: {staff0}
who+: {staff+#}
who-: {staff-#}

name: Hotel {last} | the {adjective} {object} Hotel | Pension {first}
kind: family hotel | guesthouse | hostel | motel
noun: stay | hotel | night
item: double room | single room | attic suite | corner room | family room
gear: towels | pillows | curtains | slippers | blankets
thing: the {item} | the {other} | the bed | the breakfast | the shower | the lobby
person: the receptionist | the porter | the chambermaid | the manager
open: we spent {count} nights at {name} in {town} | I booked a {item} at {name} | {companion} and I stayed at {name}
detail-: Builders were drilling next door | The elevator was out of order | Our key opened nothing
detail0: Our floor was the {nth} | The lobby was empty | Check-in starts at three
detail+: They upgraded us to the suite | Fresh flowers stood in the hall | The sea glittered below
adverb: at breakfast, | on the first night, | once we had unpacked,
good: the bed was as soft as a cloud | the {gear} smelled of lavender | we slept until ten | the balcony faced the sea
good: the water was hot at any hour
bad: the {gear} had stains | the shower dripped all night | the walls were thin as cardboard | the mattress sagged
bad: we found hair in the sink
fact: breakfast is served from seven to ten | the {item} is on the {nth} floor | the hotel has {minutes} rooms
fact: the {gear} were {colour} and the walls {colour} | parking costs {count} euros a night
it0: faced the courtyard, and the {gear} were {colour} | was on the {nth} floor, next to the {item} | {place0}
it0: {place0}
who0: copied our passports and named the floor | counted the {gear} and left | said that breakfast starts at seven
who0: {staff0} | {staff0}
who+: {staff+#}
who-: {staff-#}

name: "The {adjective} {object}" | "{object} of {town}" | "Goodbye, {first}"
kind: spy film | western | documentary | musical
noun: film | movie | sequel
item: opening scene | chase | final duel | courtroom scene | flashback
craft: costumes | subtitles | opening titles | stunts | sets
thing: the {item} | the {other} | the plot | the ending | the soundtrack | the screenplay
person: the director | the lead actor | the actress | the sheriff
open: I watched {name} at the cinema in {town} | we saw {name}, a {kind} by {first} {last},
open: {companion} took me to {name}
detail-: The trailer had shown everything | Three people walked out | The sound kept cutting out
detail0: It runs for {minutes} minutes more than two hours | We sat in row {count} | It is set in {town}
detail+: The audience clapped at the title | It had just won a festival | The last showing was packed
adverb: after the last scene, | halfway through, | by the second act,
good: the jokes landed every time | {first} {last} carries each scene | the twist caught all of us | the score soared
good: the {craft} were made by hand
bad: the {item} dragged on for {minutes} minutes | the {craft} looked cheap as cardboard | the punchlines fell flat
bad: the plot had more holes than a sieve | {first} {last} mumbled every line
fact: the story starts in {town} and ends in {town} | the {item} lasts {minutes} minutes | {first} {last} is the mayor
fact: it was shot in {town} in {count} weeks | the {craft} are in {colour} and {colour}
it0: lasted about {minutes} minutes | was shot in {town}, according to the poster
who0: appeared in {count} scenes | came from {town} and sang in the {item} | also worked in {town} and {town}
who+: was {adv+} {a+#} | was {a+#} and {a+#} | made {deep} {a+#} impression | seemed {a+#} {degree+}
who-: was {adv-} {a-#} | was {a-#} and {a-#} | made {deep} {a-#} impression | seemed {a-#} {degree-}

name: the {adjective} {object} Quartet | {first} {last} | the {town} Choir
kind: jazz club | church | open-air stage | opera house
noun: concert | show | performance
item: cello solo | encore | overture | drum solo | ballad
craft: violins | trumpets | guitars | drums | flutes
thing: the {item} | the {other} | the acoustics* | the sound | the stage | the {craft}*
person: the singer | the drummer | the conductor | the pianist
open: we heard {name} at a {kind} in {town} | {companion} and I saw {name} | I got tickets for {name} in {town}
detail-: The band came on an hour late | Our seats were behind a pillar | It began with feedback
detail0: We stood near the {craft} | The hall holds {minutes} rows | They began with a {item}
detail+: The tickets had gone in minutes | The crowd was humming already | We got seats in the first row
adverb: from the first note, | during the {item}, | after the interval,
good: the {item} filled the hall to the roof | the {craft} blended like honey
good: nobody wanted to go home after the {item} | they played {count} encores
good: the {item} gave {companion} goose bumps
bad: the {craft} were out of tune | the microphone squealed | the singer forgot the {item}
bad: they left after {minutes} minutes | the {craft} drowned out the voice
fact: they were on for {minutes} minutes before the {item} | the {item} came {nth} | the {craft} stood on the left
fact: the programme lists {count} songs and a {item} | {companion} sat in row {count}
it0: came after the {item} and before the interval | lasted {count} minutes, with {craft} only | {place0} | {place0}
who0: came on after the {item} | tuned the {craft} for a minute | introduced the {item} in two words | {staff0}
who0: {staff0}
who+: {staff+#}
who-: {staff-#}

name: the {last} School | {object} College | Studio {last}
kind: pottery course | Spanish class | yoga course | cooking class
noun: course | class | lesson
item: first lesson | homework | final exam | warm-up | group exercise
craft: exercises | slides | examples | brushes | chairs
thing: the {item} | the {other} | the pace | the classroom | the {craft}* | the certificate
person: the teacher | the instructor | the trainer | the other students*
open: I took a {kind} at {name} | {companion} and I joined a {kind} at {name} in {town}
open: I signed up for a {kind} at {name}
detail-: The room had changed again | The teacher was replaced twice | Half of the group had quit
detail0: There were {count} of us | It met on {day} | We began with the {item}
detail+: The group was small and cheerful | The teacher had written the book on it | The sun shone into the studio
adverb: after the first lesson, | at the end of the term, | in week {count},
good: I learned more in the {item} than in a year | the {craft} were laid out for us | {companion} now practises daily
good: every question was welcome | the {item} flew by
bad: the {craft} were from the last century | the teacher arrived {minutes} minutes late
bad: the {item} was read aloud from a sheet | there were {count} {craft} for {minutes} people
bad: nobody marked the {item}
fact: the {item} takes {minutes} minutes | the course has {count} parts and a {item} | we met every {day} at {count}
fact: the {craft} are kept in a {colour} cupboard | {companion} sat next to the {craft}
it0: came after the {item}, as in every week | was kept online until {month} | {place0} | {place0}
who0: wrote the {item} on the board | handed out the {craft} | moved from {town} to {town} in {month} | {staff0}
who0: {staff0}
who+: {staff+#}
who-: {staff-#}
"""


@dataclass
class Writer:
    """Fills in templates; the words of `bound` keys stay, other choices are not repeated while there are others."""

    rng: random.Random
    tables: dict[str, list[str]]
    bound: dict[str, str]
    used: set[str] = field(default_factory=set)

    def fill(self, text: str) -> str:
        while slot := re.search(r"\{([^}]+)\}", text):
            text = text[: slot.start()] + self.draw(slot[1]) + text[slot.end() :]
        return text

    def draw(self, key: str) -> str:
        if key in self.bound:
            return self.bound[key]
        numbered = key not in self.tables
        choices = [choice.replace("#", key[-1]) for choice in self.tables[key[:-1]]] if numbered else self.tables[key]
        choice = self.rng.choice([choice for choice in choices if choice not in self.used] or choices)
        self.used.add(choice)
        return choice


@dataclass(frozen=True)
class Beginning:
    """A prompt before tidying: sentences and perhaps a lead into the next one, which decides how that goes on."""

    text: str
    lead: str
    opens_with: str  # the kind of clause that follows the lead: say (a whole one), it or who (a predicate)
    bound: dict[str, str]
    mood: str

    @property
    def prompt(self) -> str:
        return tidy(f"{self.text} {self.lead}")


@dataclass(frozen=True)
class Review:
    """A row of the files (prompt, response) and the two causes of its reward, which the files do not tell."""

    prompt: str
    response: str
    mood: str
    ending: str


def read_tables(text: str) -> dict[str, list[str]]:
    tables: dict[str, list[str]] = {}
    for line in filter(None, text.splitlines()):
        key, _, choices = line.partition(":")
        tables.setdefault(key, []).extend(choice.strip() for choice in choices.split("|"))
    return tables | {"other": tables["item"]}


def tidy(text: str) -> str:
    """Agreement of plurals, a or an, and capitals at the beginnings of sentences."""
    text = " ".join(text.split()).replace(",.", ".")
    text = text.replace("* was", " were").replace("* is ", " are ").replace("*", "")
    text = re.sub(r"\b([Aa]) (?=[aeioAEIO]|u(?!se|ni)|U(?!t))", r"\1n ", text)
    return re.sub(r"(^|[.!] )([a-z])", lambda match: match[1] + match[2].upper(), text)


def repeats(text: str, bound: dict[str, str]) -> bool:
    return any(text.lower().count(words.lower().rstrip("*")) > 1 for words in bound.values())


def draw_beginning(rng: random.Random, tables: dict[str, list[str]], mood: str) -> Beginning:
    writer = Writer(rng, tables, {})
    while True:
        writer.bound = {}
        writer.bound = {key: writer.fill(f"{{{key}}}") for key in BOUND}
        text = writer.fill(f"{{{mood}}}")
        lead, opens_with = rng.choice(LEADS)
        beginning = Beginning(text, writer.fill(lead), opens_with, writer.bound, mood)
        if len(beginning.prompt.split()) in PROMPT_WORDS and not repeats(beginning.prompt, writer.bound):
            return beginning


def draw_response(rng: random.Random, tables: dict[str, list[str]], beginning: Beginning, ending: str) -> str:
    while True:
        writer = Writer(rng, tables, beginning.bound, {*beginning.bound.values(), beginning.lead})
        body = re.sub(r"^\{say", "{" + beginning.opens_with, writer.draw(ending))
        turn = TURNS.get((beginning.mood, ending))
        if turn and not beginning.lead and rng.random() < TURN_SHARE:
            body = f"{{{turn}}} {body}"
        body = writer.fill(body)
        response = tidy(f"{beginning.text} {beginning.lead} {body}").removeprefix(beginning.prompt).strip()
        if len(response.split()) in RESPONSE_WORDS and not repeats(f"{beginning.lead} {body}", beginning.bound):
            return response


def reviews(seed: int) -> Iterator[tuple[str, Review]]:
    """Yields (split, review); no prompt and no response occurs twice over all splits but for a prompt's own rows."""
    domains = [read_tables(SHARED + domain) for domain in DOMAINS.split("\n\n")]
    prompts: set[str] = set()
    responses: set[str] = set()
    for split, n_prompts in PROMPTS.items():
        rng = random.Random(f"{seed} {split}")
        for _ in range(n_prompts):
            tables, mood = rng.choice(domains), rng.choices(list(MOODS), list(MOODS.values()))[0]
            beginning = draw_beginning(rng, tables, mood)
            while beginning.prompt in prompts:
                beginning = draw_beginning(rng, tables, mood)
            prompts.add(beginning.prompt)
            for _ in range(rng.choice(RESPONSES[split])):
                ending = rng.choices(list(ENDINGS[mood]), list(ENDINGS[mood].values()))[0]
                response = draw_response(rng, tables, beginning, ending)
                while response in responses:
                    response = draw_response(rng, tables, beginning, ending)
                responses.add(response)
                yield split, Review(beginning.prompt, response, mood, ending)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("aloll_cli/data/reviews"), help="folder of the three files")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[str]] = {split: [] for split in PROMPTS}
    for split, review in reviews(options.seed):
        lines[split].append(json.dumps({"prompt": review.prompt, "response": review.response}) + "\n")
    for split, rows in lines.items():
        (options.out / f"{split}.jsonl").write_text("".join(rows), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
