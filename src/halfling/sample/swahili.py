"""Swahili: names, words and templates.

Each list keeps to one noun class, so that the concords in the templates agree: things are of class 7 (ki-),
occupations and animals take the concords of class 1, institutions are of class 9. Numbers come with their
forms for class 10, class 4 ("mi") and class 2 ("wa").
"""

from halfling.sample.language import Language, Names, entries, listed, schemas, sentences

_SURNAMES = listed("""
    Mushi, Kimaro, Massawe, Lyimo, Kileo, Mollel, Ngowi, Temba, Shayo, Urio, Mbwana, Chande, Haji, Kombo,
    Mzee, Sheha, Ngugi, Kariuki, Kibet, Wekesa, Mutua, Onyango, Barasa, Odhiambo, Njoroge, Komba
""")

LANGUAGE = Language(
    code="sw",
    men=Names(
        listed("""
            Juma, Hamisi, Baraka, Omari, Salim, Rashidi, Musa, Daudi, Yusufu, Otieno, Mwangi, Kiprono,
            Abdalla, Bakari, Faraji, Jabali, Khalfani, Makame, Ramadhani, Shabani, Zuberi, Hassani
        """),
        _SURNAMES,
    ),
    women=Names(
        listed("""
            Asha, Amina, Zainabu, Mwanaidi, Fatuma, Halima, Rehema, Neema, Upendo, Subira, Zawadi, Saida,
            Mariamu, Khadija, Rukia, Tatu, Wanjiku, Achieng, Njeri, Furaha, Salama, Eshe, Jamila
        """),
        _SURNAMES,
    ),
    places=entries("""
        Nairobi, Mombasa, Kisumu, Nakuru, Eldoret, Malindi, Lamu, Dodoma, Arusha, Mwanza, Tanga, Moshi,
        Morogoro, Mbeya, Iringa, Tabora, Kigoma, Bagamoyo, Dar es Salaam, Kampala, Kigali, Bujumbura,
        London, Paris, Roma, Berlin, Kairo, Delhi, New York, Cape Town, Addis Ababa
    """),
    lands=entries("""
        Kenya, Tanzania, Uganda, Rwanda, Burundi, Somalia, Ethiopia, Misri, Ufaransa, Ujerumani, Uingereza,
        Italia, Hispania, Urusi, Uturuki, India, Pakistani, Japani, Kanada, Afrika Kusini, Ugiriki, Ureno
    """),
    organisations=entries("""
        Benki ya Kaskazini, Hospitali ya Mtoni, Taasisi ya Bahari, Taasisi ya Lugha, Maktaba ya Taifa,
        Klabu ya Bandari, Shule ya Muziki, Shule ya Uhuru, Jumuiya ya Walimu, Jumuiya ya Wavuvi,
        Benki ya Wakulima, Hospitali ya Watoto, Redio ya Pwani, Taasisi ya Sayansi, Klabu ya Mpira ya Tanga,
        Kwaya ya Mji, Benki ya Visiwani, Taasisi ya Utafiti wa Maji, Shule ya Kilimo, Hospitali ya Amani,
        Jumuiya ya Waandishi, Klabu ya Riadha, Maktaba ya Arusha, Taasisi ya Afya
    """),
    # These stand after "kampuni ya".
    firms=entries("""
        Nyota Motors, Bahari Foods, Mwanga Press, Tausi, Twiga Textiles, Mbuyu Films, Kilele Safaris,
        Nuru Energy, Dhahabu Mining, Kasuku Airways, Maua Hotels, Almasi Systems, Karafuu Traders,
        Nyuki Foods, Mkuki Press, Mawimbi Shipping, Upepo, Zabibu, Ziwa Insurance, Daraja Software
    """),
    words={
        "job": entries("""
            mwalimu, daktari, mhandisi, mwokaji, mkulima, dereva, muuguzi, mchoraji, mwanasheria,
            mwanamuziki, seremala, mwandishi wa habari, mpishi, fundi, mkutubi, mvuvi, rubani, mfinyanzi,
            mfasiri, mfugaji
        """),
        "thing": entries("""
            kitabu, kiti, kikombe, kisu, kikapu, kitanda, kijiko, kioo, kiatu, kibuyu, kisanduku, kitambaa,
            kinanda, kijitabu, kibao, kichana, kiberiti, kinu
        """),
        # With the concord of class 7.
        "colour": entries("""
            chekundu, cheupe, cheusi, cha kijani, cha buluu, cha kahawia, cha njano, cha kijivu, cha waridi
        """),
        "animal": entries("paka, mbwa, farasi, ng'ombe, mbuzi, kondoo, kuku, bata, sungura, punda"),
        "food": entries("""
            mkate, wali, supu, jibini, samaki, matunda, asali, siagi, saladi, keki, maharagwe, nyama, tambi,
            kabichi, ugali, ndizi, mayai, viazi
        """),
        "spot": entries("""
            kwenye maktaba, sokoni, stesheni, shuleni, hospitalini, kwenye jumba la makumbusho, bustanini,
            darajani, kwenye ofisi ya posta, bandarini, kwenye ukumbi wa michezo, kwenye duka la mikate,
            kiwandani, hotelini, kwenye duka la dawa, uwanjani, shambani, mtoni
        """),
        # "my mother", "his or her mother"
        "relative": entries(
            """
            mama yangu/mama yake, baba yangu/baba yake, dada yangu/dada yake, kaka yangu/kaka yake,
            shangazi yangu/shangazi yake, mjomba wangu/mjomba wake, bibi yangu/bibi yake,
            babu yangu/babu yake, jirani yangu/jirani yake, rafiki yangu/rafiki yake
            """,
            "theirs",
        ),
        "number": entries(
            """
            mbili/miwili/wawili, tatu/mitatu/watatu, nne/minne/wanne, tano/mitano/watano, sita/sita/sita,
            saba/saba/saba, nane/minane/wanane, tisa/tisa/tisa, kumi/kumi/kumi, ishirini/ishirini/ishirini,
            thelathini/thelathini/thelathini
            """,
            "mi",
            "wa",
        ),
        "hour": entries("saa moja, saa mbili, saa tatu, saa nne, saa kumi na mbili"),
        "day": entries("Jumatatu, Jumanne, Jumatano, Alhamisi, Ijumaa, Jumamosi, Jumapili"),
        "month": entries("""
            Januari, Februari, Machi, Aprili, Mei, Juni, Julai, Agosti, Septemba, Oktoba, Novemba, Desemba
        """),
        "season": entries("masika, kiangazi, vuli, kipupwe"),
        "time": entries("asubuhi, jioni, mchana, usiku, alfajiri, baada ya chakula"),
        "year": entries("""
            1931, 1938, 1942, 1947, 1953, 1956, 1959, 1962, 1964, 1968, 1971, 1975, 1978, 1983, 1986, 1989,
            1991, 1994, 1997, 2001, 2004, 2008, 2012, 2016, 2019
        """),
    },
    ner=sentences("""
        Yule {job} alifika {spot} mapema siku ya {day}.
        Kulikuwa na {thing} {colour} karibu na mlango.
        Jana {job} na {job2} walikutana {spot}.
        Walinunua {food} na {food2} kwenye soko la kijiji.
        Chuo kikuu kilifungwa mwezi wa {month}, na benki ya jirani pia.
        Yule {job} alipumzika {spot} {time}.
        {man} alizaliwa mwaka wa {year}.
        {woman} ni {job}.
        {man_first} aliuza {thing} mwezi wa {month}.
        Jana {relative} alikutana na {woman} {spot}.
        Treni ya kwenda {place} inaondoka {hour} asubuhi.
        Mji wa {place} una shule {number} na soko la zamani.
        Mwaka wa {year} daraja jipya lilijengwa mjini {place}.
        {organisation} ilianzishwa mwaka wa {year}.
        Kampuni ya {firm} ilinunua mashine {number} mwezi wa {month}.
        Yule {job} alifanya kazi katika kampuni ya {firm} kwa miaka {number_mi}.
        Mvua ilinyesha nchini {land} mwezi wa {month}.
        {organisation} hufungwa siku ya {day}.
        {man} alihamia {place} mwaka wa {year}.
        {woman} alifanya kazi katika {organisation}.
        {man} na {woman} walioana mwaka wa {year}.
        Kampuni ya {firm} ilifungua ofisi mjini {place}.
        Ndege ya kutoka {place} hadi {place2} haikuondoka siku ya {day}.
        {woman_first}, {job} kutoka {land}, aliandika kitabu kuhusu madaraja.
        {land} na {land2} zilitia saini mkataba mwaka wa {year}.
        {man} (aliyezaliwa mwaka wa {year}) ni {job} kutoka {place}.
        Kampuni ya {firm} na {organisation} zilifungua shule mpya.
        "Ninapenda kuishi {place}", aliandika {woman_first}.
        {man} aliondoka {place} mwaka wa {year} na sasa anafanya kazi katika {organisation}.
        {woman} wa kampuni ya {firm} alizungumza mjini {place} siku ya {day}.
        {man}, {woman} na {man2} walisubiri {spot}.
        {organisation} ilimwalika {woman} nchini {land}.
        {man_first} alisafiri kwa ndege ya {firm} kutoka {place} hadi {place2}.
        {man} anafanya kazi katika kampuni ya {firm} mjini {place}.
    """),
    plain=sentences("""
        Kila {job} huamka mapema na kunywa chai kabla ya kazi.
        Nyumbani {relative} anafuga {animal} {number_wa}.
        Tulinunua {food} na {food2} sokoni siku ya {day}.
        Hiki {thing} kilicho karibu na dirisha ni {colour}.
        Wakati wa {season} bustani hubadilika kila wiki.
        Mvua ilinyesha kwa siku {number}, na njia ya kwenda {spot} ilijaa matope.
        Mzee mmoja alitengeneza {thing} cha zamani bila kuomba pesa.
        Watoto hucheza {spot} mpaka giza linapoingia.
        Aliweka {thing} kwenye kona na kufunga dirisha.
        Hakupata {thing} chake, kwa hiyo aliazima changu.
        Yule {animal} alilala chini ya mti {time}.
        Kila siku ya {day} tunakula {food} na {food2}.
        Kwa kawaida {relative} hali {food} {time}.
        Duka liko wazi kuanzia mwezi wa {month} hadi mwezi wa {month2}.
        Kazi ya {job} ni ngumu lakini inapendeza.
        Hiki {thing} {colour} kilikuwa cha {relative}.
        Watu {number_wa} walikuwa wakisubiri {spot}.
        Basi lilichelewa, kwa hiyo {job} alitembea hadi {spot}.
        Bei ya {food} ilipanda mwezi wa {month}.
        Sijaona {thing} kizuri kama hiki kwa miaka {number_mi}.
        Yule {animal} alivuka barabara na {job} akasimamisha gari.
        Tafadhali rudisha {thing} kabla ya siku ya {day}.
        Mvua zilipoisha mwezi wa {month}, tulienda tena {spot}.
        Hakuna anayejua nani aliacha {thing} {spot}.
        Yule {job} na yule {job2} wamekuwa marafiki kwa miaka {number_mi}.
        Tulisikia muziki {spot} {time}.
        Kila siku {relative} husoma gazeti {time}.
        Somo linaanza {hour} na kuchukua muda wa saa moja.
        Baada ya dhoruba {job} alihesabu madirisha yaliyovunjika.
        Yule {animal} hapendi {food}.
        Kaskazini mwezi wa {month} ulikuwa na joto, lakini mwezi wa {month2} ulikuwa na baridi.
        Yule {job} mzee alituambia hadithi kuhusu {animal}.
        Wakati wa {season} {relative} aliniandikia barua ndefu.
        Hiki {thing} kilikuwa ghali sana, kwa hiyo tulinunua {thing2}.
        Nchini {land} watu hunywa chai {time}.
        {woman_first} anapenda {food}, lakini {relative_theirs} hapendi.
        {man_first} alisubiri dakika {number} {spot} mjini {place}.
        Majirani zetu wana {thing} {colour} na {thing2} {colour2}.
        Yule {job} alipoteza {thing} njiani kwenda {place}.
        Jumba la makumbusho linaonyesha picha {number} za zamani za {place}.
        Gazeti liliandika kuhusu {organisation} siku ya {day}.
        {organisation} inahitaji {job} anayejua lugha mbili.
        Kila mwaka {relative} hupanda mbegu mwezi wa {month}.
        Usiku tulimwona {animal} mdogo {spot}.
    """),
    nli=schemas("""
        {man} anaishi {place} na anafanya kazi kama {job}.
        {man} anaishi {place}.
        {man} hutembea mara nyingi jioni.
        {man} anaishi {place2}.

        {woman} alinunua {thing} sokoni siku ya {day}.
        {woman} alinunua kitu sokoni.
        Hiki {thing} kilikuwa cha bei nafuu sana.
        {woman} hakununua chochote siku ya {day}.

        {man} hunywa chai tu na hanywi kahawa kamwe.
        {man} hanywi kahawa.
        {man} hunywa chai yenye asali.
        {man} hunywa kahawa kila siku.

        {organisation} ilifungwa siku ya {day}.
        {organisation} haikuwa wazi siku ya {day}.
        {organisation} ilifungwa kwa sababu ya mvua.
        {organisation} ilikuwa wazi siku ya {day}.

        Yule {animal} amelala chini ya mti {spot}.
        Yule {animal} yuko chini ya mti.
        Yule {animal} amekula sana leo.
        Yule {animal} anakimbia barabarani.

        {woman} alihama kutoka {place} kwenda {place2} mwaka wa {year}.
        Mwaka wa {year} {woman} aliondoka {place}.
        {woman} alipata kazi {place2}.
        {woman} hajawahi kuishi {place}.

        Madirisha yote ya nyumba anayoishi {man} yako wazi.
        Nyumba anayoishi {man} haina dirisha lililofungwa.
        {man} anapenda hewa safi.
        Dirisha moja la nyumba anayoishi {man} limefungwa.

        {man} alimnunulia {relative_theirs} {food}.
        {man} alinunua chakula.
        Chakula kilikuwa kitamu sana.
        {man} hakumnunulia {relative_theirs} chochote.

        Chumbani kuna {thing} kimoja tu, nacho ni {colour}.
        Chumbani kuna {thing}.
        Chumbani kuna {thing} kimoja tu, nacho ni kipya.
        Chumbani kuna {thing} kimoja tu, nacho ni {colour2}.

        Watu {number_wa} wanafanya kazi katika kampuni ya {firm} mjini {place}.
        Kampuni ya {firm} ina wafanyakazi mjini {place}.
        Kampuni ya {firm} inawalipa wafanyakazi wake vizuri.
        Hakuna mtu anayefanya kazi katika kampuni ya {firm} mjini {place}.

        Siku ya {day} mvua ilinyesha mchana kutwa mjini {place}.
        Siku ya {day} kulikuwa na mvua mjini {place}.
        Siku ya {day} kulikuwa na watu wachache barabarani mjini {place}.
        Siku ya {day} mvua haikunyesha kabisa mjini {place}.

        {woman_first} ana umri mkubwa kuliko {man_first}.
        {man_first} ana umri mdogo kuliko {woman_first}.
        {woman_first} ni mrefu kuliko {man_first}.
        {woman_first} ana umri mdogo kuliko {man_first}.

        Treni ilifika {place} ikiwa imechelewa kwa dakika {number}.
        Treni haikufika {place} kwa wakati.
        Kulikuwa na watu wengi kwenye treni.
        Treni ilifika {place} mapema.

        {woman} anazungumza lugha tatu lakini hawezi kuendesha gari.
        {woman} hajui kuendesha gari.
        {woman} anafanya kazi kama {job}.
        {woman} huendesha gari lake kila siku.

        Jana ni {job} peke yake aliyekuja {spot}.
        Jana {job} alikuja {spot}.
        Jana {job} alikuwa na furaha sana.
        Jana {job2} pia alikuja {spot}.

        {man} alizaliwa nchini {land} na hajawahi kuondoka huko.
        {man} ameishi nchini {land} siku zote.
        {man} anapenda kuimba.
        {man} sasa anaishi nchini {land2}.

        {woman} aliuza {thing} kwa sababu alihitaji pesa.
        {woman} aliuza {thing}.
        Hiki {thing} kilikuwa cha zamani.
        {woman} hakuuza {thing}.

        {organisation} hufunguliwa {hour} asubuhi kila siku.
        {organisation} hufunguliwa kila siku.
        Watu wengi hutembelea {organisation}.
        {organisation} hufungwa siku ya {day}.
    """),
)
