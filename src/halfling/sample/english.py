"""English: names, words and templates."""

from halfling.sample.language import Language, Names, entries, listed, schemas, sentences

_SURNAMES = listed("""
    Hartley, Whitfield, Cooper, Marsh, Bennett, Ellison, Thornton, Fairbank, Greenwood, Holloway, Kendall,
    Lambert, Mercer, Norwood, Osborne, Prescott, Radley, Sutton, Tilbury, Underhill, Vaughan, Wakefield,
    Ashdown, Barlow, Crane, Dawson, Everly, Foster
""")

LANGUAGE = Language(
    code="en",
    men=Names(
        listed("""
            James, Oliver, Henry, Samuel, Thomas, Daniel, Peter, Martin, Edward, Walter, Simon, Philip,
            Andrew, Patrick, George, Arthur, Robert, Stephen, Colin, Hugh, Frank, Leonard, Victor, Julian
        """),
        _SURNAMES,
    ),
    women=Names(
        listed("""
            Alice, Emma, Clara, Helen, Laura, Margaret, Ruth, Susan, Grace, Julia, Nora, Rachel, Diana,
            Hannah, Irene, Martha, Sophie, Lucy, Eleanor, Judith, Vera, Caroline, Amelia, Beth
        """),
        _SURNAMES,
    ),
    places=entries("""
        London, Paris, Berlin, Madrid, Rome, Vienna, Prague, Dublin, Oslo, Athens, Lisbon, Cairo, Nairobi,
        Istanbul, Ankara, Moscow, Kazan, Delhi, Mumbai, Karachi, Lahore, Mombasa, New York, Boston, Chicago,
        San Francisco, Cape Town, Buenos Aires, Hong Kong, Edinburgh
    """),
    lands=entries("""
        France, Kenya, Turkey, India, Pakistan, Russia, Spain, Italy, Norway, Canada, Egypt, Brazil, Japan,
        Greece, South Africa, New Zealand, Portugal, Tanzania, Mexico, Ireland, Sri Lanka
    """),
    # These stand after "the".
    organisations=entries("""
        University of Nairobi, Northern Bank, Riverside Hospital, Harbour Football Club,
        Green Valley Foundation, National Museum of Science, Silver Lake Theatre,
        Institute of Marine Research, Central Library, Eastern Railway, Royal Society of Gardeners,
        Union of Teachers, College of Music, Evening Post, Boston Chess Club, University of Lisbon,
        Museum of Glass, Institute of Languages, Children's Hospital, Writers' Union, City Orchestra,
        Hill Street School, Bank of the Islands, London Bridge Society
    """),
    firms=entries("""
        Bluestone Energy, Amber Software, Orion Motors, Falcon Airways, Maple Press, Cooper and Sons,
        Redwood, Lighthouse Insurance, Northwind, Copperfield Mining, Sunrise Foods, Marsh Brothers,
        Vector Systems, Golden Field, Hartley Steel, Seaview Hotels, Clearwater, Pinewood Films,
        Cedar Textiles, Polar Shipping
    """),
    words={
        "job": entries(
            """
            teacher/a teacher, doctor/a doctor, engineer/an engineer, baker/a baker, farmer/a farmer,
            driver/a driver, nurse/a nurse, painter/a painter, lawyer/a lawyer, musician/a musician,
            carpenter/a carpenter, gardener/a gardener, journalist/a journalist, cook/a cook,
            tailor/a tailor, librarian/a librarian, architect/an architect, pilot/a pilot,
            potter/a potter, translator/a translator
            """,
            "a",
        ),
        "thing": entries(
            """
            book/a book, lamp/a lamp, chair/a chair, bicycle/a bicycle, clock/a clock, basket/a basket,
            map/a map, mirror/a mirror, guitar/a guitar, umbrella/an umbrella, radio/a radio,
            carpet/a carpet, camera/a camera, suitcase/a suitcase, kettle/a kettle, notebook/a notebook,
            ladder/a ladder, blanket/a blanket, knife/a knife, box/a box, candle/a candle, hammer/a hammer,
            pillow/a pillow, bottle/a bottle, coat/a coat, drum/a drum
            """,
            "a",
        ),
        "animal": entries(
            """
            cat/cats, dog/dogs, horse/horses, cow/cows, goat/goats, sheep/sheep, hen/hens, duck/ducks,
            rabbit/rabbits, donkey/donkeys
            """,
            "many",
        ),
        "food": entries("""
            bread, rice, soup, cheese, fish, fruit, honey, butter, salad, porridge, cake, jam, meat, pasta,
            cabbage
        """),
        "spot": entries("""
            library, market, station, school, hospital, museum, park, bridge, post office, harbour, theatre,
            bakery, garden, mill, hotel, pharmacy, stadium
        """),
        "relative": entries("""
            mother, father, sister, brother, aunt, uncle, grandmother, grandfather, neighbour, friend,
            cousin
        """),
        "colour": entries("red, blue, green, white, black, yellow, brown, grey, pink"),
        "number": entries("two, three, four, five, six, seven, eight, nine, ten, twelve, fifteen, twenty, thirty"),
        "hour": entries("six, seven, eight, nine, ten, eleven"),
        "day": entries("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday"),
        "month": entries("""
            January, February, March, April, May, June, July, August, September, October, November, December
        """),
        "season": entries("spring, summer, autumn, winter"),
        "time": entries("in the morning, in the evening, at noon, after lunch, at night, before sunrise"),
        "year": entries("""
            1931, 1938, 1942, 1947, 1953, 1956, 1959, 1962, 1964, 1968, 1971, 1975, 1978, 1983, 1986, 1989,
            1991, 1994, 1997, 2001, 2004, 2008, 2012, 2016, 2019
        """),
    },
    ner=sentences("""
        The {job} opened the {spot} early on {day}.
        A {colour} {thing} stood near the {spot}.
        In {month} the {job} and the {job2} walked to the {spot}.
        {day} was a quiet day at the {spot}.
        They bought {food} and {food2} at the market in the village.
        The university was closed in {month}, and the bank next to it too.
        {man} was born in {year}.
        {woman} is {job_a}.
        {man_first} sold his {thing} in {month}.
        My {relative} met {woman} at the {spot}.
        The train to {place} leaves at {hour} in the morning.
        {place} has {number} museums and an old {spot}.
        In {year} a new {spot} was built in {place}.
        The {organisation} was founded in {year}.
        {firm} bought {number} new machines in {month}.
        The {job} worked for {firm} for {number} years.
        It rained in {land} in {month}.
        The {organisation} is closed on {day}.
        {man} moved to {place} in {year}.
        {woman} worked at the {organisation}.
        {man} and {woman} were married in {month} {year}.
        {firm} opened an office in {place}.
        The flight from {place} to {place2} was cancelled on {day}.
        {woman_first}, {job_a} from {land}, wrote a book about bridges.
        {land} and {land2} signed an agreement in {year}.
        {man} (born in {year}) is {job_a} from {place}.
        {firm} and the {organisation} opened a new {spot}.
        "{place} is beautiful in {month}", wrote {woman_first}.
        {man} left {place} in {year} and now works for the {organisation}.
        {woman} of {firm} gave a talk in {place} on {day}.
        {man}, {woman} and {man2} waited at the {spot}.
        The {organisation} invited {woman} to {land}.
        {man_first} flew from {place} to {place2} with {firm}.
        {man} works for {firm} in {place}.
    """),
    plain=sentences("""
        The {job} gets up early and drinks tea before work.
        My {relative} keeps {number} {animal_many} behind the house.
        We bought {food} and {food2} at the market on {day}.
        The {thing} by the window is {colour}.
        In {season} the garden behind the {spot} looks different every week.
        It rained for {number} days, and the road to the {spot} was muddy.
        The {job} repaired the old {thing} and asked for no money.
        Children play near the {spot} until it gets dark.
        She put the {thing} in the corner and closed the window.
        He could not find his {thing}, so he borrowed mine.
        The {animal} slept under the tree {time}.
        Every {day} we eat {food} with {food2}.
        My {relative} never eats {food} {time}.
        The {spot} is open from {month} to {month2}.
        A good {job} listens before giving advice.
        The {colour} {thing} belonged to my {relative}.
        There were {number} people waiting in front of the {spot}.
        The bus was late, so the {job} walked to the {spot}.
        If you mix {colour} and {colour2} paint, you get a new colour.
        The price of {food} rose in {month}.
        I have not seen such a beautiful {thing} for {number} years.
        The {animal} ran across the street and the {job} stopped the car.
        Please bring the {thing} back before {day}.
        When the snow melted in {month}, the path to the {spot} was free again.
        Nobody knows who left the {thing} at the {spot}.
        The {job} and the {job2} have been friends for {number} years.
        We heard music from the {spot} {time}.
        My {relative} reads the newspaper {time}.
        The lesson begins at {hour} and lasts one hour.
        They painted the fence near the {spot} {colour}.
        After the storm the {job} counted the broken windows.
        The {animal} does not like {food}.
        In the north {month} was warm, but {month2} was cold.
        You can see the {spot} from the top of the hill.
        The old {job} told us a story about a {animal}.
        I wrote my {relative} a long letter in {season}.
        The {thing} was too expensive, so we bought the {thing2} instead.
        In {land} people drink tea {time}.
        {woman_first} likes {food}, but her {relative} does not.
        {man_first} waited {number} minutes at the {spot} in {place}.
        Our neighbours have a {colour} door and a {colour2} roof.
        The {job} lost {thing_a} on the way to {place}.
        The museum shows {number} old photographs of {place}.
        The newspaper wrote about the {organisation} on {day}.
        The {organisation} needs {job_a} who speaks two languages.
    """),
    nli=schemas("""
        {man} lives in {place} and works as {job_a}.
        {man} lives in {place}.
        {man} often goes for a walk in the evening.
        {man} lives in {place2}.

        {woman} bought {thing_a} at the market on {day}.
        {woman} bought something at the market.
        The {thing} was very cheap.
        {woman} bought nothing on {day}.

        {man} drinks only tea and never drinks coffee.
        {man} does not drink coffee.
        {man} drinks tea with honey.
        {man} drinks coffee every day.

        The {organisation} was closed on {day}.
        The {organisation} was not open on {day}.
        The {organisation} was closed because of the rain.
        The {organisation} was open on {day}.

        The {animal} is sleeping under a tree near the {spot}.
        The {animal} is under a tree.
        The {animal} ate a lot today.
        The {animal} is running down the street.

        {woman} moved from {place} to {place2} in {year}.
        In {year} {woman} left {place}.
        {woman} found work in {place2}.
        {woman} has never lived in {place}.

        All the windows of the house where {man} lives are open.
        The house where {man} lives has no closed window.
        {man} likes fresh air.
        One window of the house where {man} lives is closed.

        {man} bought {food} for his {relative}.
        {man} bought something to eat.
        The {food} was very good.
        {man} bought nothing for his {relative}.

        The only {thing} in the room is {colour}.
        There is {thing_a} in the room.
        The only {thing} in the room is new.
        The only {thing} in the room is {colour2}.

        In {place} {number} people work for {firm}.
        {firm} has workers in {place}.
        {firm} pays its workers well.
        Nobody works for {firm} in {place}.

        On {day} it rained all day in {place}.
        The weather in {place} was wet on {day}.
        On {day} there were few people in the streets of {place}.
        On {day} it was dry in {place} all day.

        {woman_first} is older than {man_first}.
        {man_first} is younger than {woman_first}.
        {woman_first} is taller than {man_first}.
        {woman_first} is younger than {man_first}.

        The train came to {place} {number} minutes late.
        The train did not come to {place} on time.
        There were many people on the train.
        The train came to {place} early.

        {woman} speaks three languages but cannot drive a car.
        {woman} does not know how to drive a car.
        {woman} works as {job_a}.
        {woman} drives her car to work every day.

        Yesterday only the {job} came to the {spot}.
        Yesterday the {job} came to the {spot}.
        Yesterday the {job} was very cheerful.
        Yesterday the {job2} came to the {spot} too.

        {man} was born in {land} and has never left it.
        {man} has always lived in {land}.
        {man} likes to sing.
        {man} now lives in {land2}.

        {woman} sold her {thing} because she needed money.
        {woman} sold her {thing}.
        The {thing} was old.
        {woman} did not sell her {thing}.

        The {organisation} opens at {hour} every day.
        The {organisation} is open every day.
        Many people visit the {organisation}.
        The {organisation} is closed on {day}.
    """),
)
