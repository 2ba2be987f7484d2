"""Write the embedded task `reviews`: beginnings of short reviews (prompts) and how they go on (responses).

A review is drawn from a small grammar, one word table a domain. Its prompt hints at how things went ("after two
cancellations"), which tilts the ending without deciding it: the mean reward, and so V(x), differs from prompt to
prompt, while every prompt can still end well. The endings are positive, negative, mixed or neutral, the strong ones
in three strengths. The reward itself is not stored: it is VADER's compound score of the response.

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

# How likely each ending is after each kind of hint, in per cent.
ENDINGS = {
    "rough": {"positive": 14, "negative": 46, "mixed": 20, "neutral": 20},
    "plain": {"positive": 32, "negative": 28, "mixed": 20, "neutral": 20},
    "promising": {"positive": 48, "negative": 12, "mixed": 20, "neutral": 20},
}

BOUND = ("name", "kind", "item", "companion")  # drawn once a prompt: all its responses speak of the same ones
# How the last sentence of a prompt may already have begun, and the clause that the response must then begin with.
LEADS = [("", "say")] * 4 + [("{adverb}", "say")] * 2 + [("{thing}", "it")] * 2 + [("{person}", "who")]

# The grammar. A line is `key: choice | choice`; lines with one key add up, and a domain adds to what all share.
# {key} draws a choice; {say+2} draws from `say+` with every # replaced by 2, the strength. `*` marks a plural.
SHARED = """
plain: {open} {when}. | {when}, {open}. | {open} {when}. {detail0}. | {open} {when}. {detail0}.
rough: {open} {hint-}. | {hint-}, {open}. | {open} {when}. {detail-}. | {open}. {detail-}.
promising: {open} {hint+}. | {hint+}, {open}. | {open} {when}. {detail+}. | {open}. {detail+}.
adverb: in the end, | to be precise, | looking back, | by and large, | all in all, | as far as I could tell,
adverb: frankly, | for what it is worth, | in my experience, | if you ask me, | to sum up, | overall,

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
say+: {good}, and {thing} was {a+#} | I {love+#} {thing} {degree} | {companion} {love+#} {thing}, and {good}
say+: {good}; {companion} {love+#} that | I {love+#} the way {good} | it was {deep} {a+#} {noun} | {person} {who+#}
say-: {thing} {it-#} | {thing} {it-#} | {thing} {it-#} | {person} {who-#} | {person} {who-#} | {bad}, which was {a-#}
say-: {bad}, and {thing} was {a-#} | I {hate-#} {thing} {degree} | {companion} {hate-#} {thing}, and {bad}
say-: {bad}; {companion} {hate-#} that | I {hate-#} the way {bad} | it was {deep} {a-#} {noun} | {person} {who-#}
say0: {fact} | {fact} | {fact} | {fact} | {thing} {it0} | {person} {who0}
it+: was {adv} {a+#} | was {a+#}, and {good} | was {a+#} {degree} | turned out {a+#} | struck me as {a+#}
it+: seemed {a+#} to {companion} and me | was {a+#} and {a+#} | was, {aside}, {adv} {a+#} | was more than {a+#}
it-: was {adv} {a-#} | was {a-#}, and {bad} | was {a-#} {degree} | turned out {a-#} | struck me as {a-#}
it-: seemed {a-#} to {companion} and me | was {a-#} and {a-#} | was, {aside}, {adv} {a-#} | was beyond {a-#}
it0: was roughly what the {leaflet} describes | was of the usual sort | was neither here nor there for {companion}
it0: was about average for this {noun} | was what {companion} had expected | was mentioned in the {leaflet}
it0: was standard, as far as {companion} knows | matched the description in the {leaflet}
it0: was nothing out of the ordinary | was there, as announced in the {leaflet} | was as usual, or so {companion} says
it0: took the form that the {leaflet} announces | was familiar to {companion}
place0: was much the same as {ago} | looked {same} in the photographs | was {same} {ago}
staff+: was {adv} {p+#} | was {p+#} and {p+#} | seemed {p+#} to {companion} | was {p+#} from the first minute
staff+: was {p+#}, and {good} | remained {p+#} all the way through | seemed {adv} {p+#} | was as {p+#} as ever
staff-: was {adv} {p-#} | was {p-#} and {p-#} | seemed {p-#} to {companion} | was {p-#} from the first minute
staff-: was {p-#}, and {bad} | remained {p-#} all the way through | seemed {adv} {p-#} | was as {p-#} as ever
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

a+1: decent | pleasant | nice | good | agreeable | okay | fair | fine | solid | neat | acceptable | better
a+1: satisfactory | respectable | interesting | worthwhile | useful | comforting | amusing | relaxing | fresh
a+2: lovely | great | enjoyable | delightful | charming | impressive | excellent | elegant | entertaining | beautiful
a+2: cheerful | lively | inspiring | clever | satisfying | sweet | warm | fascinating | graceful | pretty | adorable
a+2: joyful | playful | rich | fun | admirable | creative | attractive | exciting | peaceful | dynamic | vibrant
a+2: sparkling | serene | gentle | dignified
a+3: superb | magnificent | brilliant | fantastic | outstanding | wonderful | amazing | perfect | terrific | splendid
a+3: marvelous | fabulous | awesome | glorious | gorgeous | divine | heavenly | thrilling | triumphant | blissful
a+3: euphoric | flawless | superior | stunning | breathtaking
a-1: disappointing | weak | dull | awkward | boring | poor | tired | unfortunate | inferior | lame | questionable
a-1: confusing | inadequate | strange | uncomfortable | bothersome | useless | foolish | bland | mediocre
a-2: bad | annoying | unpleasant | frustrating | sad | depressing | ugly | messy | stupid | ridiculous | irritating
a-2: miserable | pitiful | gloomy | dreary | lousy | harsh | distressing | upsetting | dire | hopeless | worthless
a-2: rotten | offensive
a-3: horrible | terrible | awful | disgusting | appalling | dreadful | pathetic | disastrous | horrendous | nasty
a-3: vile | catastrophic | outrageous | horrid | horrifying | sickening | tragic | hellish | crappy | idiotic
a-3: traumatic | devastating | brutal
p+1: helpful | courteous | kind | friendly | patient | calm | considerate | honest | polite | fair | respectful
p+1: competent | supportive | reassuring | careful | sincere | tolerant | easygoing | gentle | attentive
p+2: cheerful | gracious | charming | generous | warm | thoughtful | funny | welcoming | passionate | lovely | joyful
p+2: enthusiastic | compassionate | talented | sweet | clever | affectionate | sympathetic | wise | loyal | jolly
p+2: genial | intelligent | dignified | sociable
p+3: wonderful | amazing | brilliant | adorable | superb | fantastic | outstanding | magnificent | fabulous | terrific
p+3: splendid | inspirational | marvelous | perfect | awesome | great
p-1: distracted | tired | awkward | bored | nervous | indifferent | unsure | confused | reluctant | tense | hesitant
p-1: forgetful | stubborn | anxious | lazy | timid | apathetic | uneasy | clumsy
p-2: rude | impatient | careless | unfriendly | irritable | moody | arrogant | annoyed | unprofessional | selfish
p-2: bitter | ignorant | incompetent | greedy | sarcastic | snobbish | deceitful | foolish | gloomy
p-3: hostile | horrible | insulting | aggressive | abusive | nasty | vicious | obnoxious | hateful | furious | cruel
p-3: awful | dreadful | dishonest | disgusting | brutal | offensive | sinister | terrible
love+1: liked | appreciated | approved of | welcomed | was satisfied with | was comfortable with | was fond of
love+2: enjoyed | admired | was pleased with | was impressed by | was charmed by | praised
love+3: adored | loved | was thrilled by | treasured | was amazed by | was delighted by | was overjoyed by
hate-1: was bored by | doubted | complained about | was unsure about | was confused by | was uneasy about | criticized
hate-2: disliked | resented | regretted | was annoyed by | was disappointed by | was frustrated by | was upset by
hate-3: hated | despised | loathed | was disgusted by | was horrified by | was appalled by | was outraged by
mood+: happy | delighted | thrilled | glad | inspired | grateful | relaxed | excited | enthusiastic | smiling
mood-: angry | disappointed | furious | upset | miserable | annoyed | gloomy | bitter | frustrated | sad | unhappy
praise: compliments | praise | applause | thanks | good reputation | success | many admirers | prize | fame
praise: gratitude
regards: compliments | thanks | best wishes | applause | respect | warm regards
blame: complaints | critics | bad reputation | terrible rating | angry letters | empty chairs | poor marks | problems
adv: really | quite | rather | remarkably | very | so | simply | unusually | especially | downright | thoroughly
adv: undeniably | consistently | somewhat | decidedly | particularly | genuinely | fairly | unmistakably | incredibly
adv: exceptionally | extremely
degree: from start to finish | in every way | beyond words | for once | the whole time | on the whole | once more
degree: at every turn | in parts | all the same | until the very last moment | throughout | from beginning to end
degree: as a whole
aside: at least for me | for {companion} as well | given the price | all things considered | I must say | once again
deep: a | a | a | a rather | a most | a very | a quite | an altogether
scope: in {town} | these days | for the money | in my book | at this level | this side of {town} | this {season}
season: spring | summer | autumn | winter | month | year
future: next {season} | some day | in {month} | one of these days | after {month} | sooner or later | before long
anyone: my colleagues | anybody with two hours | the whole family | half the street | my students
anyone: everyone at the office | other parents | visitors from {town} | the pensioners next door | my followers
anyone: our neighbours | every newcomer
money: time | money | an afternoon | electricity | patience | paper | a day off | petrol | a good evening
leaflet: leaflet | website | brochure | catalogue | announcement | newsletter | guide
paper: form | receipt | leaflet | ticket | postcard | list | note | notice | questionnaire | timetable
same: exactly as | much as | a little smaller than | larger than | newer than | older than | different than
ago: {count} years ago | last {season} | under the previous owners | before the renovation | in {month}
count: two | three | four | five | six | seven | eight | nine
minutes: five | ten | fifteen | twenty | thirty | thirty-five | forty | fifty | ninety
colour: green | blue | grey | white | black | brown | yellow | red | beige | purple | turquoise | orange
day: Monday | Tuesday | Wednesday | Thursday | Friday | Saturday | Sunday
month: January | February | March | April | May | June | July | August | September | October | November | December
first: Anna | Boris | Clara | Daniel | Elif | Farid | Greta | Hugo | Ines | Jonas | Kofi | Lena | Marta | Nils | Olga
first: Pablo | Rosa | Samir | Tilda | Viktor | Wanda | Yusuf | Zoe | Agnes | Bruno | Dora | Emil | Freya | Igor
first: Judith
last: Abbott | Brandt | Castellan | Duarte | Eklund | Fontaine | Garrick | Holloway | Ibsen | Jansen | Kovacs
last: Lindqvist | Moreau | Novak | Okafor | Petrov | Quill | Rossi | Sandoval | Tanaka | Ueda | Varga | Whitlock
last: Zeller
town: Ghent | Porto | Bergen | Leeds | Graz | Basel | Lucca | Cork | Malmo | Tartu | Gdansk | Bilbao | Utrecht
town: Nantes | Bristol | Turku | Siena | Krakow | Lyon | Dundee | Aarhus | Zagreb | Trieste | Galway | Salzburg
town: Leiden | Bruges
adjective: Copper | Silver | Crooked | Hidden | Northern | Velvet | Amber | Painted | Hollow | Scarlet | Winter
adjective: Marble | Paper | Iron | Seventh | Blue | Little | Upper | Wooden | Green | Midnight | Emerald | Second
adjective: Electric
object: Lantern | Harbour | Orchard | Fox | Heron | Compass | Anchor | Mirror | Bridge | Kettle | Window | Feather
object: Staircase | Tower | River | Umbrella | Sparrow | Cellar | Clock | Whale | Acorn | Bell | Mill | Lighthouse
companion: my sister | my brother | my neighbour | my cousin | my daughter | my father | my grandmother | my boss
companion: my flatmate | my husband | my wife | my aunt | my uncle | my nephew | my cousin {first}
companion: my classmate {first} | my teacher | my landlady | my mother | my son | my colleague {first} | my niece
companion: my grandfather
when: on a {day} | in early {month} | in late {month} | one {day} evening | last {month} | around noon
when: on {day} morning | while it rained outside | for a change | during the holidays | after work
when: before the weekend | on the way to {town} | for the {nth} time | a week ago | quite by chance
nth: second | third | fourth | fifth
hint-: after a long delay | after two cancellations | despite several warnings | with a bad feeling | in a foul mood
hint-: against the advice of {companion} | after {count} unanswered calls | because everything else was sold out
hint-: after an argument over the price | for lack of anything better | although the reviews had turned sour
hint-: half against my will | because {companion} insisted | after a wasted morning | with low hopes
hint-: for twice the usual price
hint+: on the warm recommendation of {companion} | after {count} glowing reviews | thanks to a tip from {first}
hint+: for our anniversary | as a birthday present for {companion} | after dreaming of it since {month}
hint+: because {companion} would not stop praising it | after winning a voucher | with {companion} beaming
hint+: after a friendly nudge from {first} | after last year's triumph | with high hopes | at half the usual price
"""

DOMAINS = """
name: the {adjective} {object} | Chez {first} | {first}'s Kitchen | Trattoria {last} | the {object} Inn
name: Bistro {last}
kind: bistro | tavern | trattoria | noodle bar | grill | tapas bar | brasserie | pizzeria | curry house | canteen
kind: diner
noun: meal | dinner | lunch | supper | kitchen | menu
item: risotto | goulash | lasagne | mushroom soup | lamb stew | ravioli | duck | trout | paella | pumpkin curry
item: pancakes* | schnitzel | onion tart | ramen | aubergine bake | steak | fish pie | moussaka
side: potatoes | rice | lentils | beetroot | spinach | bread | cabbage | chips | beans | couscous | polenta | carrots
drink: cider | lemonade | house wine | espresso | mint tea | ale | tonic water | apple juice | prosecco | lager
thing: the {item} | the {other} | the soup | the dessert | the bread | the menu | the wine list | the portions*
thing: the sauce | the starters* | the terrace | the pastry | the gravy | the seasoning | the {side} | the {drink}
thing: the cutlery
person: the waiter | the waitress | the chef | the owner | the barman | the cooks* | the sommelier
person: the man at the till
open: we had dinner at {name}, a {kind} in {town}, | we booked a table at {name} | I ordered the {item} at {name}
open: {companion} and I had the {item} at {name} | we tried {name}, the new {kind} in {town},
open: we ate at {name}, a {kind} near the station,
detail-: The queue reached the street | The kitchen was already closing | Our table stood next to the bins
detail-: A plate had just been dropped | Half of the menu was crossed out
detail0: We sat by the window | The menu had two pages | We shared the {item} | A radio was on | I took the {item}
detail+: The whole room smelled of {item} | A candle stood on each table | They gave us the best table
detail+: The guests around us were laughing | There was {drink} on the house
adverb: when the plates arrived, | after the first bite, | by the time we paid, | once we sat down,
good: the {item} melted on the tongue | the {side} came straight from the oven | the {drink} was on the house
good: the crust crackled | every bowl was scraped clean | they refilled the {drink} without asking
good: the herbs were just picked | the chef came out to explain the {item} | the broth had simmered since dawn
good: the portions were large | the waiter remembered our names | the spices were balanced to the gram
good: even the {side} had flavour
bad: the {item} arrived lukewarm | the {side} tasted of old oil | the {drink} was flat | the soup had a hair in it
bad: we waited {minutes} minutes for the bill | the crust was burnt | they forgot the {side} | the meat was chewy
bad: the glasses were greasy | the waiter spilled the {drink} and walked off | the {item} was raw in the middle
bad: the fish smelled stale | they charged {count} euros for tap water | the sauce had curdled | the salad was wilted
fact: the {item} came with {side} and a {drink} | the kitchen closes at ten | {companion} chose the {item}
fact: there were {count} tables and a counter | the bill came to {minutes} euros | the menu changes every {day}
fact: we ordered {side}, then {side} | the {kind} seats about {minutes} people | they serve {item} at noon only
fact: the {item} is cooked for {minutes} minutes | dessert was cake with {drink} | they take cards from ten euros
it0: was served with {side} on a {colour} plate | came {minutes} minutes after the {drink}
who0: brought {side} and took the menus away | wrote the order on a pad | poured the {drink} and left
who+: {staff+#}
who-: {staff-#}
who0: {staff0} | {staff0}
it0: {place0} | {place0}

name: Hotel {last} | the {adjective} {object} Hotel | Pension {first} | the {town} Palace | {object} Lodge
name: Villa {last}
kind: family hotel | guesthouse | hostel | motel | spa hotel | country inn | boarding house | apartment hotel
noun: stay | hotel | night | weekend | guesthouse | breakfast
item: double room | single room | attic suite | corner room | family room | bungalow | balcony room | twin room
gear: towels | pillows | curtains | slippers | blankets | sheets | lamps | mirrors | hangers | bathrobes | carpets
thing: the {item} | the {other} | the bed | the breakfast | the shower | the lobby | the sauna | the pool
thing: the mattress | the {gear}* | the view | the bathroom | the wallpaper | the corridor | the minibar | the balcony
thing: the buffet | the air conditioning | the elevator
person: the receptionist | the porter | the chambermaid | the manager | the concierge | the night clerk | the maids*
person: the landlord | the lifeguard
open: we spent {count} nights at {name} in {town} | I booked a {item} at {name} | {companion} and I stayed at {name}
open: we checked into {name}, a {kind} outside {town}, | I took a {item} at {name}, a {kind},
detail-: Builders were drilling next door | The elevator was out of order | Our key opened nothing
detail-: The lobby smelled of damp | Nobody knew about our booking
detail0: Our floor was the {nth} | The lobby was empty | Check-in starts at three | We asked for extra {gear}
detail+: They upgraded us to the suite | Fresh flowers stood in the hall | The sea glittered below
detail+: A basket of fruit was waiting | Somebody carried our bags at once
adverb: at breakfast, | on the first night, | once we had unpacked, | when we checked out,
good: the bed was as soft as a cloud | the {gear} smelled of lavender | we slept until ten | the balcony faced the sea
good: the water was hot at any hour | the eggs were made to order | they let us check out at noon
good: the room was swept twice a day | a pot of tea stood by the bed | the croissants were still warm
good: the porter carried {count} suitcases upstairs | the walls kept out every sound | the pool was ours at dawn
bad: the {gear} had stains | the shower dripped all night | the walls were thin as cardboard | the mattress sagged
bad: we found hair in the sink | the heating rattled until dawn | reception charged us twice
bad: mould grew on the ceiling | breakfast ran out by eight | the window did not shut | ants marched across the {gear}
bad: the toilet leaked | the {item} reeked of smoke | they lost our passports for {minutes} minutes
bad: the wifi dropped every {count} minutes
fact: breakfast is served from seven to ten | the {item} is on the {nth} floor | the hotel has {minutes} rooms
fact: the {gear} were {colour} and the walls {colour} | parking costs {count} euros a night
fact: {companion} had the {item} | the bus to {town} leaves from the door | check-out is at eleven
fact: the {item} has {gear} and {gear} | there was a kettle next to the {gear} | towels are changed every {nth} day
fact: the lobby has {count} armchairs
it0: faced the courtyard, and the {gear} were {colour} | was on the {nth} floor, next to the {item}
who0: copied our passports and named the floor | counted the {gear} and left | said that breakfast starts at seven
who+: {staff+#}
who-: {staff-#}
who0: {staff0} | {staff0}
it0: {place0} | {place0}

name: "The {adjective} {object}" | "{object} of {town}" | "Goodbye, {first}" | "A {object} in {month}"
name: "{first} and {first}"
kind: spy film | western | documentary | musical | cartoon | drama | road movie | costume drama | space opera
noun: film | movie | sequel | {kind} | evening at the cinema | screening
item: opening scene | chase | final duel | courtroom scene | flashback | ballroom scene | wedding scene | last shot
craft: costumes | subtitles | opening titles | stunts | sets | puppets | close-ups | landscapes | dialogues | trailers
thing: the {item} | the {other} | the plot | the ending | the soundtrack | the screenplay | the camera work
thing: the {craft}* | the dubbing | the editing | the twist | the voices* | the lighting | the pacing | the animation
thing: the premise
person: the director | the lead actor | the actress | the sheriff | the narrator | the stuntmen* | the child star
person: the extras* | the composer | the detective | the leading lady
open: I watched {name} at the cinema in {town} | we saw {name}, a {kind} by {first} {last},
open: {companion} took me to {name} | we streamed {name}, a {kind} set in {town}, | I caught {name}, the new {kind},
detail-: The trailer had shown everything | Three people walked out | The sound kept cutting out
detail-: The first cut had been shelved for years | Someone behind us was snoring
detail0: It runs for {minutes} minutes more than two hours | We sat in row {count} | It is set in {town}
detail+: The audience clapped at the title | It had just won a festival | The last showing was packed
detail+: {first} {last} was back at last | I had loved the novel
adverb: after the last scene, | halfway through, | by the second act, | as soon as the lights went down,
good: the jokes landed every time | {first} {last} carries each scene | the twist caught all of us | the score soared
good: the {craft} were made by hand | nobody in the row breathed during the {item}
good: I had goose bumps during the {item} | the dialogue crackled | the camera lingered on the right faces
good: the {item} will be talked about for years | the story never slowed | the audience rose to its feet
good: the {craft} looked like paintings
bad: the {item} dragged on for {minutes} minutes | the {craft} looked cheap as cardboard | the punchlines fell flat
bad: the plot had more holes than a sieve | {first} {last} mumbled every line | I fell asleep before the {item}
bad: half of the {craft} were out of focus | the twist was obvious after {count} minutes
bad: the score drowned out the words | the wedding came from nowhere | the {item} was copied from an older {kind}
bad: the camera shook until I was sick
fact: the story starts in {town} and ends in {town} | the {item} lasts {minutes} minutes | {first} {last} is the mayor
fact: it was shot in {town} in {count} weeks | the {craft} are in {colour} and {colour} | there is an intermission
fact: it is a {kind} about a {town} family | the {item} comes after an hour | {companion} saw the first half
fact: the film has {count} chapters and a prologue | most scenes take place on a train | it is based on a {kind}
it0: lasted about {minutes} minutes | was shot in {town}, according to the poster
who0: appeared in {count} scenes | came from {town} and sang in the {item} | also worked in {town} and {town}
who+: was {adv} {a+#} | was {a+#} and {a+#} | made {deep} {a+#} impression | seemed {a+#} {degree}
who-: was {adv} {a-#} | was {a-#} and {a-#} | made {deep} {a-#} impression | seemed {a-#} {degree}

name: "The {object} Maker" | "{adjective} {object}s" | "Letters from {town}" | "The {last} Papers"
name: "What {first} Knew"
kind: sea tale | biography | cookbook | memoir | poetry collection | travelogue | textbook | saga
noun: book | read | {kind} | paperback | story | volume
item: first chapter | epilogue | prologue | third part | telegram | diary entry | preface | middle section | last page
craft: footnotes | illustrations | maps | metaphors | chapters | sentences | quotations | appendices | recipes
craft: riddles
thing: the {item} | the {other} | the prose | the plot | the translation | the cover | the {craft}* | the dialogue
thing: the style | the ending | the binding | the vocabulary | the subplot | the rhythm | the research | the index
person: the author | the narrator | the translator | the stepmother | the editor | the old sailor | the twins*
person: the inspector | the illustrator | the publisher
open: I read {name}, a {kind} by {first} {last}, | {companion} sold me {name} | I picked up {name}, a {kind},
open: our reading circle chose {name} | I found {name} at a bookshop in {town} | I finished {name}, a {kind},
detail-: The spine broke on the first day | It had lain in the bargain bin | {count} pages were missing
detail-: I had already given up on it once | The print was tiny
detail0: It has {minutes} chapters | My copy is a paperback | It is set in {town} | It is the {nth} in a series
detail+: I could hardly wait to begin | It had been on every prize list | I had saved it for the holidays
detail+: {first} {last} had signed it for me | It was the author's return after years
adverb: after fifty pages, | on the last page, | by chapter {count}, | once the story gets going,
good: I read the {item} aloud to {companion} | the pages turned themselves | I stayed up until three for the {item}
good: each sentence rang like a bell | the {craft} opened a whole world | the characters breathe
good: the {item} gave me goose bumps | I started again from page one | the clues fell into place like a puzzle
good: {first} {last} writes with a light hand | the {craft} are worth the price | I underlined half of the {item}
bad: the {item} went in circles | I skipped {minutes} pages | the {craft} were full of errors
bad: the captain never changed | the narrator lectured for whole chapters | the {item} read as stiffly as a manual
bad: pages fell out of the binding | the author forgot two characters | I gave up during the {item}
bad: the {craft} were printed upside down | the mystery was solved by accident | every page repeated the last one
bad: the {item} was padded with {craft}
fact: the {item} takes place in {town} | it has {minutes} chapters and {count} {craft} | the narrator is a baker
fact: {first} {last} wrote it in {town} | the {craft} are at the back | there is a glossary after the {item}
fact: the story covers {count} years | the {item} is told by {first} | it was printed in {town} in {month}
fact: the {kind} runs to {count} hundred pages | the cover is {colour} with {colour} letters
fact: {companion} has the {nth} edition
it0: took up about {minutes} pages | was set in a small type, with {craft} on the left
who0: was born in {town} and moved to {town} | listed {count} sources in the {item} | also wrote about {town}
who+: was {adv} {a+#} | was {a+#} and {a+#} | made {deep} {a+#} impression | seemed {a+#} {degree}
who-: was {adv} {a-#} | was {a-#} and {a-#} | made {deep} {a-#} impression | seemed {a-#} {degree}

name: the {last} {model} | the {object} {model} | the {adjective} {object} {model} | the {town} {model}
model: One | Mini | Max | 300 | X5 | Duo | Air | Pocket | 7 | Plus | Studio | Zero
kind: headset | camera | clock radio | tablet | e-reader | loudspeaker | laptop | webcam | projector | dictaphone
kind: drone | game console | pocket computer | record player
noun: device | purchase | machine | gadget | product | model
item: charger | remote control | display | handle | carrying case | power cable | filter | lid | strap | touch screen
craft: buttons | batteries | hinges | rivets | earplugs | cables | keys | sensors | menus | instructions | lenses
thing: the {item} | the {other} | the battery | the sound | the {craft}* | the packaging | the design | the antenna
thing: the software | the casing | the manual | the warranty | the setup | the app | the microphone | the switch
person: the courier | the salesman | the service desk | the technician | the engineers* | the call centre | the seller
person: the developers*
open: I bought {name}, a {kind}, | {companion} gave me {name}, a {kind}, | I replaced my old {kind} with {name}
open: we ordered {name} from a shop in {town} | I unpacked {name}, my new {kind},
detail-: The box had been opened before | Two {craft} were missing | The first one had gone back already
detail-: The {item} was cracked on arrival | The parcel took {minutes} days
detail0: It came with a {item} | The box weighs {count} kilos | I chose the {colour} one | It needs {count} {craft}
detail+: It had won every comparison | The shop added a second {item} | My last one had served for years
detail+: It was wrapped like a jewel | It started at the first touch
adverb: after a month of use, | out of the box, | compared with my old one, | once it was full,
good: it is full again after {minutes} minutes | the {craft} click into place | the {item} fits every pocket
good: it runs for {count} days without the {item} | it hums as softly as a cat | setting it up took {count} minutes
good: the {item} survived a fall from the balcony | the {craft} feel made to last | updates arrive every {day}
good: support replaced the {item} overnight | the picture was razor sharp
good: even {companion} understood the {item} at once
bad: the {item} snapped in two | the battery died after {count} hours | it froze every {minutes} minutes
bad: the {craft} came loose | the screen flickered | the hotline kept me on hold for {minutes} minutes | it overheated
bad: the {item} would not close | it deleted my settings | the {craft} rusted within {count} weeks | it screeched
bad: the app crashed whenever I touched the {item} | the casing smelled of burning rubber | the refund never came
fact: it weighs {count} hundred grams with the {item} | the {item} is {colour} | it comes in {colour} and {colour}
fact: the box contains a {item} and {count} {craft} | it takes {count} {craft} | the {item} is sold separately
fact: I use it about {count} hours a week | the manual is in {count} languages | the cable measures {count} metres
fact: the {craft} are on the left, next to the {item} | {companion} has the same {kind} in {colour}
fact: it is made in {town}
it0: sat between the {craft} and the {item} | measured {minutes} by {minutes} centimetres
who0: sent a {item} and an invoice | answered by email on {day} | came on {day} with the {item}
who+: {staff+#}
who-: {staff-#}
who0: {staff0} | {staff0}

name: the {last} Museum | the {town} Gallery | the Museum of {craft} | the {object} House | the {last} Collection
kind: sculpture show | photo exhibition | dinosaur hall | planetarium | open-air museum | portrait gallery
kind: science centre
noun: museum | exhibition | visit | collection | gallery | tour
item: skeleton | mummy | fresco | mosaic | steam engine | porcelain room | map room | telescope | tapestry
item: model ship
century: twelfth | thirteenth | fourteenth | fifteenth | sixteenth | seventeenth | eighteenth | nineteenth
craft: Clocks | Toys | Salt | Textiles | Radios | Tiles | Bicycles | Puppets | Maps | Glass | Coins | Trams
thing: the {item} | the {other} | the paintings* | the audio guide | the labels* | the entrance hall | the bookshop
thing: the sculptures* | the lighting | the ticket system | the cloakroom | the courtyard | the exhibits*
thing: the display cases* | the roof terrace | the children's corner | the archive
person: the guide | the curator | the attendant | the guards* | the volunteer | the cashier | the restorer
person: the lecturer
open: we visited {name}, a {kind} in {town}, | I spent an afternoon in {name} | {companion} and I toured {name}
open: we took the class to {name} | I went to {name} to see the {item}
detail-: Two wings were shut | The ticket machine ate my card | The queue went around the block
detail-: Rain was dripping through the roof | A school class was screaming inside
detail0: Entry costs {count} euros | We began with the {item} | Bags stay in the lockers | It has {count} floors
detail+: Admission happened to be free | The {item} had just been restored | Sunlight poured into the hall
detail+: The curator herself led the tour | We had the rooms to ourselves
adverb: in the first room, | after two hours, | in front of the {item}, | on our way out,
good: the {item} gleamed as on its first day | the guide answered {count} questions of {companion}
good: the children forgot the time | each label told a story | the {item} filled a hall of its own
good: you may touch the {item} | we stayed until closing | the dome opened to the stars
good: the staircase is a work of art | the archive let us leaf through diaries | every room had a bench and a view
good: the audio guide brought the {item} to life
bad: the {item} was on loan | half of the labels were missing | the audio guide had no batteries
bad: dust lay on the {item} | the lamps flickered over the {item} | guards shouted at {companion}
bad: we queued for {minutes} minutes | the rooms were stuffy | the {item} turned out to be a plastic copy
bad: the arrows led us into a cupboard | the cafe asked {count} euros for a biscuit | the tour skipped the {item}
bad: the screens were dead
fact: the {item} is on the {nth} floor | the oldest piece is the {item} from {town} | tours start at {count}
fact: the collection fills {minutes} rooms | the {item} stands next to the {other}
fact: photographs without flash are allowed | it opens at ten on {day} | the labels are in {count} languages
fact: the {item} was made in {town} | the tram from {town} ends outside | the {item} weighs {minutes} tons
fact: {companion} stayed near the {item}
it0: was made in the {century} century | was moved here from {town}
who0: stood beside the {item} | pointed to the {item} and then to the {other} | stamped the tickets
who+: {staff+#}
who-: {staff-#}
who0: {staff0} | {staff0}
it0: {place0} | {place0}

name: the {adjective} {object} Quartet | {first} {last} | the {town} Choir | the {last} Brothers | the {object}s
kind: jazz club | church | open-air stage | opera house | concert hall | circus tent | town hall | basement bar
noun: concert | show | performance | gig | evening | set
item: cello solo | encore | overture | drum solo | ballad | waltz | duet | opening song | saxophone solo | finale
item: lullaby
craft: violins | trumpets | guitars | drums | flutes | keyboards | oboes | amplifiers | tambourines | accordions
thing: the {item} | the {other} | the acoustics* | the sound | the stage | the {craft}* | the programme | the bass
thing: the light show | the seats* | the rhythm section | the piano | the microphones* | the lyrics* | the melody
person: the singer | the drummer | the conductor | the pianist | the violinist | the usher | the guitarist
person: the soloists* | the sound engineer | the trumpeter
open: we heard {name} at a {kind} in {town} | {companion} and I saw {name} | I got tickets for {name} in {town}
open: I went to hear {name}, live in a {kind}, | {name} played at the {kind}
detail-: The band came on an hour late | Our seats were behind a pillar | It began with feedback
detail-: The singer had a cold | The support act had been booed
detail0: We stood near the {craft} | The hall holds {minutes} rows | They began with a {item} | It was part of a tour
detail+: The tickets had gone in minutes | The crowd was humming already | We got seats in the first row
detail+: They opened with my favourite {item} | Lanterns hung in the trees
adverb: from the first note, | during the {item}, | after the interval, | when the lights came on again,
good: the {item} filled the hall to the roof | the {craft} blended like honey
good: nobody wanted to go home after the {item} | they played {count} encores
good: the {item} gave {companion} goose bumps | the {craft} sparkled | the whole {kind} danced
good: the hall held its breath during the {item} | the singer waved to {companion} | the {item} grew out of silence
good: every note of the {craft} was in place | the crowd hummed the {item} on the way home
bad: the {craft} were out of tune | the microphone squealed | the singer forgot the {item}
bad: they left after {minutes} minutes | the {craft} drowned out the voice | the {item} fell apart halfway
bad: we saw only a pillar | the bass made my teeth ache | the drummer missed every entry | beer rained on {companion}
bad: the {item} came from a tape | the hall was freezing | they cut the {item} short | the {craft} buzzed all evening
fact: they were on for {minutes} minutes before the {item} | the {item} came {nth} | the {craft} stood on the left
fact: the programme lists {count} songs and a {item} | {companion} sat in row {count} | doors open at {count}
fact: there were {count} {craft} on the stage | the {item} is by {first} {last} | the interval lasts {minutes} minutes
fact: the next concert is in {town} in {month} | the {item} is in four parts | they wore {colour} and sat on stools
it0: came after the {item} and before the interval | lasted {count} minutes, with {craft} only
who0: came on after the {item} | tuned the {craft} for a minute | introduced the {item} in two words
who+: {staff+#}
who-: {staff-#}
who0: {staff0} | {staff0}
it0: {place0} | {place0}

name: {town} Rail | {last} Coaches | {object} Tours | the {adjective} {object} Line
kind: night train | coach | express | regional train | sleeper | shuttle bus | railcar | airport bus | local train
noun: journey | trip | ride | crossing | connection | service
item: window seat | dining car | upper berth | boarding gate | quiet coach | cabin | luggage rack | couchette
item: upper deck
craft: announcements | tickets | windows | doors | seats | tables | curtains | trolleys | sockets | armrests | screens
thing: the {item} | the {other} | the legroom | the {craft}* | the booking | the snack | the boarding
thing: the ventilation | the timetable | the waiting room | the wifi | the transfer | the meal | the upholstery
thing: the toilet | the route
person: the conductor | the driver | the steward | the guard | the ticket inspector | the crew | the trainee
person: the cleaner | the luggage handler
open: I travelled with {name} from {town} to {town} | we took the {kind} of {name} to {town}
open: {companion} and I rode the {kind} to {town} with {name} | I booked a {item} on {name}
detail-: The platform changed three times | Our bags went elsewhere | The heating had broken down
detail-: We were {minutes} minutes late before leaving | The {item} had been given away
detail0: We had a {item} | The trip takes {count} hours | It was the {nth} departure of the day
detail0: I sat near the {craft}
detail+: The sun rose over the hills | We were moved to first class | The {item} was ours alone
detail+: They had served cake at the gate | It left on the minute
adverb: on board, | somewhere before {town}, | at the border, | after an hour,
good: we arrived {minutes} minutes early | the {item} had room for my long legs
good: coffee came with a biscuit and a smile | the hills rolled past the {craft} | the {craft} were spotless
good: the crew found our {item} in seconds | the {item} was as quiet as a library | I slept from {town} to {town}
good: the driver pointed out a castle | the change in {town} worked to the second
good: the children got crayons in the {item}
bad: we stood for {minutes} minutes outside {town} | the {craft} were sticky | the {item} stank of fish
bad: nobody explained the detour to {town} | my suitcase ended up in {town} | the {item} was double-booked
bad: the {craft} rattled all night | the toilets overflowed | the bus left without {companion} | we missed the ferry
bad: the {item} had no light | the trolley ran out of water | they cancelled the {kind} by text message
fact: the {kind} calls at {town} and {town} | the {item} costs {count} euros more | tickets are checked after {town}
fact: it takes {count} hours with a change in {town} | the {craft} are {colour} | {companion} took the {item}
fact: there are {count} departures on {day} | the {item} is behind the {craft} | we passed {town} at {count}
fact: the {kind} has {minutes} {craft} | one bag goes under the {item} | it leaves from platform {count}
it0: was at the rear, near the {craft} | was booked along with the {item}
who0: scanned the tickets near {town} | announced {town} and then {town} | walked through to the {item}
who+: {staff+#}
who-: {staff-#}
who0: {staff0} | {staff0}
it0: {place0} | {place0}

name: the {last} School | {object} College | Studio {last} | the {town} Academy | the {adjective} {object} Workshop
kind: pottery course | Spanish class | yoga course | cooking class | first-aid course | drawing class | sailing course
kind: dance class | photography workshop | driving course | chess course | guitar course
noun: course | class | lesson | workshop | semester | experience
item: first lesson | homework | final exam | warm-up | group exercise | handout | textbook | workbook | practice hour
craft: exercises | slides | examples | brushes | chairs | desks | questions | recordings | mats | worksheets | pencils
thing: the {item} | the {other} | the pace | the classroom | the {craft}* | the certificate | the curriculum
thing: the topic | the equipment | the feedback | the atmosphere | the online forum | the schedule | the registration
thing: the material
person: the teacher | the instructor | the trainer | the other students* | the tutor | the secretary
person: the headmistress | the assistant | the examiner
open: I took a {kind} at {name} | {companion} and I joined a {kind} at {name} in {town}
open: I signed up for a {kind} at {name} | we did the {kind} of {name}
detail-: The room had changed again | The teacher was replaced twice | Half of the group had quit
detail-: The {item} was cancelled | They had overbooked the room
detail0: There were {count} of us | It met on {day} | We began with the {item} | It lasts {count} weeks
detail+: The group was small and cheerful | The teacher had written the book on it | The sun shone into the studio
detail+: Former students raved about it | The {item} had been a joy
adverb: after the first lesson, | at the end of the term, | in week {count}, | during the {item},
good: I learned more in the {item} than in a year | the {craft} were laid out for us | {companion} now practises daily
good: every question was welcome | the {item} flew by | each of us got {minutes} minutes of attention
good: the {craft} built on each other | by {day} I could do the {item} blindfolded | even quiet people spoke up
good: they repeated the {item} until all had got it | the group still meets on {day}
good: the teacher drew the {craft} by hand
bad: the {craft} were from the last century | the teacher arrived {minutes} minutes late
bad: the {item} was read aloud from a sheet | there were {count} {craft} for {minutes} people
bad: nobody marked the {item} | the projector broke | the room had no windows
bad: the {item} had nothing to do with the course | the teacher typed on a phone
bad: they moved the {item} without telling us | the {craft} smelled of mould | questions were brushed aside
fact: the {item} takes {minutes} minutes | the course has {count} parts and a {item} | we met every {day} at {count}
fact: the {craft} are kept in a {colour} cupboard | {companion} sat next to the {craft} | the {item} is in {month}
fact: there is a break after the {item} | the group had {count} people from {town} | the {item} follows the {craft}
fact: the fee covers the {item} and the {craft} | we did the {item} in pairs | the next one starts in {month}
it0: came after the {item}, as in every week | was kept online until {month}
who0: wrote the {item} on the board | handed out the {craft} | moved from {town} to {town} in {month}
who+: {staff+#}
who-: {staff-#}
who0: {staff0} | {staff0}
it0: {place0} | {place0}

name: {last} Motors | {first}'s Garage | the {object} Car Clinic | {last} and Sons | {town} Repairs
name: the {adjective} {object} Garage
kind: hatchback | camper van | estate car | minibus | pickup | tractor | convertible | motorhome | jeep | delivery van
noun: repair | service | job | garage | workshop | inspection
item: gearbox | clutch | silencer | windscreen | front wheel | radiator | pump | handbrake | fuel tank | dashboard
item: engine
craft: brakes | tyres | fan belts | headlights | bolts | hoses | gears | wipers | seals | mirrors | pipes | valves
thing: the {item} | the {other} | the invoice | the estimate | the {craft}* | the oil change | the paintwork
thing: the advice | the waiting area | the diagnosis | the replacement car | the spare parts* | the pick-up service
thing: the polish
person: the mechanic | the apprentice | the painter | the foreman | the owner | the woman on the phone
person: the electrician | the welder | the fitters*
open: I took my {kind} to {name} in {town} | {name} repaired the {item} of my {kind}
open: {companion} sent me to {name} with a broken {item} | we had our {kind} serviced at {name}
open: I left the {kind} with {name}
detail-: It was the third attempt | The estimate had already doubled | The yard was full of wrecks
detail-: They had ordered the wrong {craft} | Nobody answered the phone for days
detail0: It needed new {craft} | The {item} was due | They open at {count}
detail0: It had {minutes} thousand kilometres on it
detail+: They had saved my last {kind} | They fetched it from my door | Coffee stood ready in the office
detail+: {companion} has trusted them for years | They had a slot the same day
adverb: after two days, | when I collected it, | on the drive home, | before they started,
good: the {item} purrs like a kitten | they changed the {craft} in {minutes} minutes | the bill was below the estimate
good: they showed me the old {craft} | they washed the {kind} at no charge | the {item} looks like new
good: the {craft} grip again | the foreman explained the {item} with a drawing | it was ready by noon
good: they tightened the {craft} as well | it passed the test at once
good: the {kind} has run since {month} without a hiccup
bad: the {item} leaked the next day | they scratched the {item} | the {craft} squeaked as before
bad: the bill had doubled | they lost my keys for {minutes} minutes | the {item} came back with a dent
bad: they fitted the {craft} the wrong way round | the {kind} broke down before {town} | smoke rose from the {item}
bad: they charged for {craft} I never got | it took {count} weeks instead of {count} days | oil dripped on my seats
bad: the {item} rattled worse than before
fact: they changed the {item} and {count} {craft} | the {craft} were from {town}
fact: the bill lists the {item} and the {craft} | it took {count} days because of the {item}
fact: they open at {count} on {day} | the {kind} stood next to a van
fact: the {item} costs {minutes} euros with the {craft} | {companion} brought the {kind} on {day}
fact: the {craft} are {colour} now | the next check of the {item} is in {month} | they kept the old {craft}
fact: the yard has room for {count} cars
it0: was listed on page two, under the {craft} | was made in {town}, same as the {item}
who0: wrote down the age of the {item} | measured the {craft} and the {item} | wiped the {item} with a cloth
who+: {staff+#}
who-: {staff-#}
who0: {staff0} | {staff0}
it0: {place0} | {place0}
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

    @property
    def prompt(self) -> str:
        return tidy(f"{self.text} {self.lead}")


@dataclass(frozen=True)
class Review:
    """A row of the files (prompt, response) and the two causes of its reward, which the files do not tell."""

    prompt: str
    response: str
    hint: str
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


def draw_beginning(rng: random.Random, tables: dict[str, list[str]], hint: str) -> Beginning:
    writer = Writer(rng, tables, {})
    while True:
        writer.bound = {}
        writer.bound = {key: writer.fill(f"{{{key}}}") for key in BOUND}
        text = writer.fill(f"{{{hint}}}")
        lead, opens_with = rng.choice(LEADS)
        beginning = Beginning(text, writer.fill(lead), opens_with, writer.bound)
        if len(beginning.prompt.split()) in PROMPT_WORDS and not repeats(beginning.prompt, writer.bound):
            return beginning


def draw_response(rng: random.Random, tables: dict[str, list[str]], beginning: Beginning, ending: str) -> str:
    while True:
        writer = Writer(rng, tables, beginning.bound, {*beginning.bound.values(), beginning.lead})
        body = writer.fill(re.sub(r"^\{say", "{" + beginning.opens_with, writer.draw(ending)))
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
            tables, hint = rng.choice(domains), rng.choice(list(ENDINGS))
            beginning = draw_beginning(rng, tables, hint)
            while beginning.prompt in prompts:
                beginning = draw_beginning(rng, tables, hint)
            prompts.add(beginning.prompt)
            for _ in range(rng.choice(RESPONSES[split])):
                ending = rng.choices(list(ENDINGS[hint]), list(ENDINGS[hint].values()))[0]
                response = draw_response(rng, tables, beginning, ending)
                while response in responses:
                    response = draw_response(rng, tables, beginning, ending)
                responses.add(response)
                yield split, Review(beginning.prompt, response, hint, ending)


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
