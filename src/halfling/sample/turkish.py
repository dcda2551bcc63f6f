"""Turkish: names, words and templates.

Places and institutions come with the suffixed forms that the templates need; people stand bare. An apostrophe
and its suffix stay in the name's token, as they do in WikiANN.
"""

from halfling.sample.language import Language, Names, entries, listed, schemas, sentences

_SURNAMES = listed("""
    Yılmaz, Kaya, Demir, Çelik, Şahin, Yıldız, Öztürk, Aydın, Arslan, Doğan, Kılıç, Çetin, Kara, Kurt,
    Özkan, Polat, Korkmaz, Bulut, Güneş, Tekin, Aksoy, Ünal, Bozkurt, Erdem, Taşkın
""")

LANGUAGE = Language(
    code="tr",
    men=Names(
        listed("""
            Ahmet, Mehmet, Mustafa, Hasan, Hüseyin, Murat, Emre, Burak, Kerem, Serkan, Tolga, Selim, Cem,
            Deniz, Volkan, Onur, Barış, Halil, İsmail, Yusuf, Levent, Kaan
        """),
        _SURNAMES,
    ),
    women=Names(
        listed("""
            Ayşe, Fatma, Zeynep, Elif, Merve, Esra, Selin, Derya, Hülya, Nur, Pınar, Sevgi, Tülay, Yasemin,
            Zehra, Leyla, Melek, Nazlı, Özlem, Şule, Ceren, Burcu, Aslı
        """),
        _SURNAMES,
    ),
    places=entries(
        """
        İstanbul/İstanbul'da/İstanbul'dan/İstanbul'a, Ankara/Ankara'da/Ankara'dan/Ankara'ya,
        İzmir/İzmir'de/İzmir'den/İzmir'e, Bursa/Bursa'da/Bursa'dan/Bursa'ya,
        Adana/Adana'da/Adana'dan/Adana'ya, Konya/Konya'da/Konya'dan/Konya'ya,
        Antalya/Antalya'da/Antalya'dan/Antalya'ya, Trabzon/Trabzon'da/Trabzon'dan/Trabzon'a,
        Kayseri/Kayseri'de/Kayseri'den/Kayseri'ye, Gaziantep/Gaziantep'te/Gaziantep'ten/Gaziantep'e,
        Samsun/Samsun'da/Samsun'dan/Samsun'a, Eskişehir/Eskişehir'de/Eskişehir'den/Eskişehir'e,
        Mersin/Mersin'de/Mersin'den/Mersin'e, Van/Van'da/Van'dan/Van'a,
        Edirne/Edirne'de/Edirne'den/Edirne'ye, Çanakkale/Çanakkale'de/Çanakkale'den/Çanakkale'ye,
        Diyarbakır/Diyarbakır'da/Diyarbakır'dan/Diyarbakır'a, Londra/Londra'da/Londra'dan/Londra'ya,
        Paris/Paris'te/Paris'ten/Paris'e, Berlin/Berlin'de/Berlin'den/Berlin'e,
        Madrid/Madrid'de/Madrid'den/Madrid'e, Roma/Roma'da/Roma'dan/Roma'ya,
        Viyana/Viyana'da/Viyana'dan/Viyana'ya, Prag/Prag'da/Prag'dan/Prag'a,
        Moskova/Moskova'da/Moskova'dan/Moskova'ya, Kahire/Kahire'de/Kahire'den/Kahire'ye,
        Nairobi/Nairobi'de/Nairobi'den/Nairobi'ye, Karaçi/Karaçi'de/Karaçi'den/Karaçi'ye,
        Atina/Atina'da/Atina'dan/Atina'ya, New York/New York'ta/New York'tan/New York'a
        """,
        "in",
        "from",
        "to",
    ),
    lands=entries(
        """
        Fransa/Fransa'da/Fransa'dan, Kenya/Kenya'da/Kenya'dan, Türkiye/Türkiye'de/Türkiye'den,
        Hindistan/Hindistan'da/Hindistan'dan, Pakistan/Pakistan'da/Pakistan'dan, Rusya/Rusya'da/Rusya'dan,
        İspanya/İspanya'da/İspanya'dan, İtalya/İtalya'da/İtalya'dan, Norveç/Norveç'te/Norveç'ten,
        Kanada/Kanada'da/Kanada'dan, Mısır/Mısır'da/Mısır'dan, Brezilya/Brezilya'da/Brezilya'dan,
        Japonya/Japonya'da/Japonya'dan, Yunanistan/Yunanistan'da/Yunanistan'dan,
        Güney Afrika/Güney Afrika'da/Güney Afrika'dan, Yeni Zelanda/Yeni Zelanda'da/Yeni Zelanda'dan,
        Portekiz/Portekiz'de/Portekiz'den, Tanzanya/Tanzanya'da/Tanzanya'dan,
        Meksika/Meksika'da/Meksika'dan, İrlanda/İrlanda'da/İrlanda'dan
        """,
        "in",
        "from",
    ),
    # A suffix on an institution takes no apostrophe.
    organisations=entries(
        """
        Ankara Üniversitesi/Ankara Üniversitesinde, Kuzey Bankası/Kuzey Bankasında,
        Göl Hastanesi/Göl Hastanesinde, Bilim Müzesi/Bilim Müzesinde, Yeşil Vadi Vakfı/Yeşil Vadi Vakfında,
        Liman Spor Kulübü/Liman Spor Kulübünde,
        Deniz Araştırmaları Enstitüsü/Deniz Araştırmaları Enstitüsünde,
        Merkez Kütüphanesi/Merkez Kütüphanesinde, Öğretmenler Birliği/Öğretmenler Birliğinde,
        Müzik Okulu/Müzik Okulunda, Çoban Yıldızı Gazetesi/Çoban Yıldızı Gazetesinde,
        Bursa Satranç Kulübü/Bursa Satranç Kulübünde, Konya Üniversitesi/Konya Üniversitesinde,
        Cam Müzesi/Cam Müzesinde, Dil Enstitüsü/Dil Enstitüsünde, Çocuk Hastanesi/Çocuk Hastanesinde,
        Yazarlar Birliği/Yazarlar Birliğinde, Şehir Orkestrası/Şehir Orkestrasında,
        Halk Tiyatrosu/Halk Tiyatrosunda, Adalar Bankası/Adalar Bankasında,
        Bahçe Sevenler Derneği/Bahçe Sevenler Derneğinde, Trabzon Kültür Merkezi/Trabzon Kültür Merkezinde,
        Balıkçılar Kooperatifi/Balıkçılar Kooperatifinde
        """,
        "in",
    ),
    firms=entries("""
        Mavi Enerji, Kehribar Yazılım, Orion Otomotiv, Şahin Havayolları, Çınar Yayınları,
        Demir ve Oğulları, Kızılağaç, Fener Sigorta, Poyraz, Bakırtaş Madencilik, Gündoğdu Gıda,
        Kaya Kardeşler, Vektör Sistem, Altın Başak, Kutup Çelik, Manzara Otelleri, Berrak Su, Çam Film,
        Sedir Tekstil, Martı Denizcilik
    """),
    words={
        "job": entries("""
            öğretmen, doktor, mühendis, fırıncı, çiftçi, şoför, hemşire, ressam, avukat, müzisyen, marangoz,
            bahçıvan, gazeteci, aşçı, terzi, kütüphaneci, mimar, pilot, çömlekçi, çevirmen
        """),
        "thing": entries(
            """
            kitap/kitabı, lamba/lambayı, sandalye/sandalyeyi, bisiklet/bisikleti, saat/saati, sepet/sepeti,
            harita/haritayı, ayna/aynayı, gitar/gitarı, şemsiye/şemsiyeyi, radyo/radyoyu, halı/halıyı,
            bavul/bavulu, çaydanlık/çaydanlığı, defter/defteri, merdiven/merdiveni, battaniye/battaniyeyi,
            bıçak/bıçağı, kutu/kutuyu, mum/mumu, çekiç/çekici, yastık/yastığı, şişe/şişeyi, palto/paltoyu,
            davul/davulu
            """,
            "acc",
        ),
        "animal": entries("kedi, köpek, at, inek, keçi, koyun, tavuk, ördek, tavşan, eşek"),
        "food": entries("""
            ekmek, pilav, çorba, peynir, balık, meyve, bal, tereyağı, salata, börek, kek, reçel, et,
            makarna, lahana
        """),
        "spot": entries(
            """
            kütüphanede/kütüphaneye/kütüphanenin, pazarda/pazara/pazarın, istasyonda/istasyona/istasyonun,
            okulda/okula/okulun, hastanede/hastaneye/hastanenin, müzede/müzeye/müzenin, parkta/parka/parkın,
            köprüde/köprüye/köprünün, postanede/postaneye/postanenin, limanda/limana/limanın,
            tiyatroda/tiyatroya/tiyatronun, fırında/fırına/fırının, bahçede/bahçeye/bahçenin,
            değirmende/değirmene/değirmenin, otelde/otele/otelin, eczanede/eczaneye/eczanenin,
            stadyumda/stadyuma/stadyumun
            """,
            "to",
            "of",
        ),
        # "my mother", "his or her mother"
        "relative": entries(
            """
            annem/annesi, babam/babası, ablam/ablası, ağabeyim/ağabeyi, teyzem/teyzesi, amcam/amcası,
            ninem/ninesi, dedem/dedesi, komşum/komşusu, arkadaşım/arkadaşı, kuzenim/kuzeni
            """,
            "theirs",
        ),
        "colour": entries("kırmızı, mavi, yeşil, beyaz, siyah, sarı, kahverengi, gri, pembe"),
        "number": entries("""
            iki, üç, dört, beş, altı, yedi, sekiz, dokuz, on, on iki, on beş, yirmi, otuz
        """),
        "hour": entries("altıda, yedide, sekizde, dokuzda, onda, on birde"),
        "day": entries("pazartesi, salı, çarşamba, perşembe, cuma, cumartesi, pazar"),
        "month": entries("""
            ocak, şubat, mart, nisan, mayıs, haziran, temmuz, ağustos, eylül, ekim, kasım, aralık
        """),
        "season": entries("ilkbaharda, yazın, sonbaharda, kışın"),
        "time": entries("""
            sabahleyin, akşamleyin, öğleyin, öğle yemeğinden sonra, geceleyin, gün doğmadan
        """),
        "year": entries("""
            1931, 1938, 1942, 1947, 1953, 1956, 1959, 1962, 1964, 1968, 1971, 1975, 1978, 1983, 1986, 1989,
            1991, 1994, 1997, 2001, 2004, 2008, 2012, 2016, 2019
        """),
    },
    ner=sentences("""
        Yaşlı {job} {day} günü {spot_to} erken geldi.
        Kapının yanında {colour} bir {thing} duruyordu.
        Dün bir {job} ile bir {job2} {spot} buluştu.
        Köydeki pazardan {food} ve {food2} aldılar.
        Üniversite {month} ayında kapalıydı, yanındaki banka da kapalıydı.
        Genç bir {job} {time} {spot} oturuyordu.
        {man} {year} yılında doğdu.
        {woman} iyi bir {job}.
        {man_first} {month} ayında bir {thing} sattı.
        Dün {relative} ile {woman} {spot} karşılaştı.
        Tren sabah {hour} {place_from} kalkıyor.
        {place_in} {number} müze ve eski bir park var.
        {year} yılında {place_in} yeni bir köprü yapıldı.
        {organisation} {year} yılında kuruldu.
        {firm} şirketi {month} ayında {number} yeni makine aldı.
        Komşumuz {number} yıl {firm} şirketinde çalıştı.
        {land_in} {month} ayında yağmur yağdı.
        {organisation} {day} günü kapalı.
        {man} {year} yılında {place_to} taşındı.
        {woman} eskiden {organisation_in} çalışıyordu.
        {man} ile {woman} {year} yılında evlendi.
        {firm} şirketi {place_in} bir büro açtı.
        {place_from} {place_to2} giden uçak {day} günü kalkmadı.
        {land_from} gelen {job} {woman_first} köprüler hakkında bir kitap yazdı.
        {land} ile {land2} {year} yılında bir anlaşma imzaladı.
        {man} ({year} doğumlu) {place_in} yaşayan bir {job}.
        {firm} şirketi ile {organisation} yeni bir okul açtı.
        "{place_in} {season} hava çok güzel", diye yazdı {woman_first}.
        {man} {year} yılında {place_from} ayrıldı ve şimdi {organisation_in} çalışıyor.
        {firm} şirketinden {woman} {day} günü {place_in} bir konuşma yaptı.
        {man}, {woman} ve {man2} {spot} bekledi.
        {organisation} {woman} için {land_in} bir toplantı düzenledi.
        {man_first} {place_from} {place_to2} {firm} şirketinin uçağıyla gitti.
        {man} {place_in} {firm} şirketinde çalışıyor.
    """),
    plain=sentences("""
        Her {job} erken kalkar ve işten önce çay içer.
        Evin arkasında {relative} {number} {animal} besliyor.
        Pazardan {day} günü {food} ve {food2} aldık.
        Pencerenin yanındaki {thing} {colour}.
        Evin arkasındaki bahçe {season} her hafta değişir.
        Yağmur {number} gün sürdü ve {spot_of} önündeki yol çamur oldu.
        Yaşlı {job} eski {thing_acc} onardı ve para istemedi.
        Çocuklar hava kararana kadar {spot_of} yanında oynar.
        Kadın {thing_acc} köşeye koydu ve pencereyi kapattı.
        Adam {spot} bir {thing} aradı ama bulamadı.
        Bizim {animal} {time} ağacın altında uyudu.
        Her {day} günü {food} ve {food2} yeriz.
        Benim {relative} {time} hiç {food} yemez.
        Dükkân {month} ayından {month2} ayına kadar açık.
        İyi bir {job} öğüt vermeden önce dinler.
        Bu {colour} {thing} eskiden komşumuzundu.
        Dün {spot_of} önünde {number} kişi bekliyordu.
        Otobüs geç kaldı, bu yüzden {job} {spot_to} yürüdü.
        Eğer {colour} ile {colour2} boyayı karıştırırsan yeni bir renk olur.
        Bu yıl {month} ayında {food} çok pahalıydı.
        Böyle güzel bir {thing} {number} yıldır görmedim.
        Bizim {animal} sokağa koştu ve {job} arabayı durdurdu.
        Lütfen {thing_acc} {day} gününe kadar geri getirin.
        Kar {month} ayında eriyince yine {spot_to} gittik.
        Kimse {thing_acc} {spot} kimin bıraktığını bilmiyor.
        Bu {job} ile o {job2} {number} yıldır arkadaş.
        Dün {time} {spot} müzik dinledik.
        Benim {relative} gazeteyi {time} okur.
        Ders {hour} başlar ve bir saat sürer.
        Ustalar {spot_of} önündeki çiti {colour} renge boyadı.
        Fırtınadan sonra {job} kırık camları saydı.
        Bizim {animal} {food} sevmez.
        Kuzeyde {month} ayı sıcak, {month2} ayı soğuktu.
        Tepeden bakınca {spot_of} önündeki yol görünür.
        Yaşlı {job} bize bir {animal} hakkında bir hikâye anlattı.
        Geçen yıl {season} {relative} bana uzun bir mektup yazdı.
        Bu {thing} çok pahalıydı, onun yerine bir {thing2} aldık.
        {land_in} insanlar {time} çay içer.
        {woman_first} {food} sever ama {relative_theirs} sevmez.
        {man_first} {place_in} {spot} {number} dakika bekledi.
        Komşularımızın {colour} bir kapısı ve {colour2} bir çatısı var.
        Bir {job} {place_to} giderken bir {thing} kaybetti.
        Sergide {place_from} gelen {number} eski fotoğraf var.
        Gazeteler {day} günü {organisation} hakkında yazdı.
        {organisation} iki dil bilen bir {job} arıyor.
    """),
    nli=schemas("""
        {man} {place_in} yaşıyor ve {job} olarak çalışıyor.
        {man} {place_in} yaşıyor.
        {man} akşamları sık sık yürüyüşe çıkar.
        {man} {place_in2} yaşıyor.

        {woman} {day} günü pazardan bir {thing} aldı.
        {woman} pazardan bir şey aldı.
        Bu {thing} çok ucuzdu.
        {woman} {day} günü hiçbir şey almadı.

        {man} yalnızca çay içer ve hiç kahve içmez.
        {man} kahve içmez.
        {man} çayı balla içer.
        {man} her gün kahve içer.

        {organisation} {day} günü kapalıydı.
        {organisation} {day} günü açık değildi.
        {organisation} yağmur yüzünden kapalıydı.
        {organisation} {day} günü açıktı.

        Bizim {animal} {spot_of} yanında bir ağacın altında uyuyor.
        Bizim {animal} bir ağacın altında.
        Bizim {animal} bugün çok yedi.
        Bizim {animal} şimdi sokakta koşuyor.

        {woman} {year} yılında {place_from} {place_to2} taşındı.
        {woman} {year} yılında {place_from} ayrıldı.
        {woman} {place_in2} iş buldu.
        {woman} hiçbir zaman {place_in} yaşamadı.

        Bugün {man} ile {woman} oturdukları evin bütün pencerelerini açtı.
        Bugün {man} ile {woman} evin pencerelerini açtı.
        {man} temiz havayı sever.
        Bugün {man} ile {woman} hiçbir pencereyi açmadı.

        {man} {relative_theirs} için {food} aldı.
        {man} yiyecek bir şey aldı.
        Yiyecekler çok lezzetliydi.
        {man} {relative_theirs} için hiçbir şey almadı.

        Odadaki tek {thing} {colour}.
        Odada bir {thing} var.
        Odadaki tek {thing} yeni.
        Odadaki tek {thing} {colour2}.

        {place_in} {firm} şirketinde {number} kişi çalışıyor.
        {firm} şirketinin {place_in} çalışanları var.
        {firm} şirketi çalışanlarına iyi para veriyor.
        {place_in} {firm} şirketinde kimse çalışmıyor.

        {place_in} {day} günü bütün gün yağmur yağdı.
        {place_in} {day} günü hava yağmurluydu.
        {place_in} {day} günü sokaklarda az insan vardı.
        {place_in} {day} günü hiç yağmur yağmadı.

        Yaşça büyük olan {woman_first}, küçük olan {man_first}.
        Yaşça küçük olan {man_first}.
        Boyu daha uzun olan {woman_first}.
        Yaşça küçük olan {woman_first}.

        Tren {place_to} {number} dakika geç geldi.
        Tren {place_to} zamanında gelmedi.
        Trende çok insan vardı.
        Tren {place_to} erken geldi.

        {woman} üç dil konuşuyor ama araba kullanamıyor.
        {woman} araba kullanmayı bilmiyor.
        {woman} {job} olarak çalışıyor.
        {woman} her gün arabasını kendisi kullanıyor.

        Dün {spot_to} yalnızca {job} geldi.
        Dün {spot_to} {job} geldi.
        Dün {job} çok neşeliydi.
        Dün {spot_to} {job2} de geldi.

        {man} {land_in} doğdu ve oradan hiç ayrılmadı.
        {man} hep {land_in} yaşadı.
        {man} şarkı söylemeyi sever.
        {man} şimdi {land_in2} yaşıyor.

        {woman} paraya ihtiyacı olduğu için bir {thing} sattı.
        {woman} bir {thing} sattı.
        Bu {thing} eskiydi.
        {woman} hiçbir şey satmadı.

        {organisation} her gün sabah {hour} açılır.
        {organisation} her gün açık.
        {organisation} çok ziyaretçi ağırlar.
        {organisation} {day} günü kapalı.
    """),
)
