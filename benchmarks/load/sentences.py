"""What is said in load tests: written for it, in lengths from a word to a long sentence."""

SENTENCES = (
    "Yes.",
    "Not yet, sorry.",
    "Who left the light on?",
    "The kettle is already hot.",
    "She waved from the far platform.",
    "Turn left after the second bridge, then stop.",
    "We could try the soup first and decide later.",
    "My brother collects maps of towns that have moved.",
    "If it rains tonight, the picnic moves to the library.",
    "Please read the last line again, a little more slowly this time.",
    "He painted the door green, and by spring nobody remembered it blue.",
    "Nobody expected the ferry to leave early, least of all its captain.",
    "There were nine chairs, eleven guests, and one very patient tailor at the end.",
    "I kept the receipt in my coat, the coat went to my sister, and she moved to Oslo.",
    "Before you open the window, check that the cat is asleep and that the papers are under something heavy.",
    "The bakery closes at six, but if you knock twice on the side door they will usually find a loaf for you.",
    "When the orchestra finally stopped tuning, a child in the third row asked, quite loudly, whether that had been "
    "the whole song.",
    "Our train was late because of leaves, then because of snow, and in the end because the driver had stopped to "
    "help a swan back to the river, which everyone agreed was fair.",
)
