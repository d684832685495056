"""The little words by which core/language.py tells languages apart: data, no behaviour.

Articles, prepositions, pronouns and auxiliaries that a page of the language can hardly do without,
by script. A word that is frequent in several languages stands in each of them, and so counts less.
Words that are also frequent English abbreviations are left out (German "am" is in every "10 a.m.").
"""

LITTLE_WORDS = {
    "latin": {
        "az": """
            və bu bir ilə üçün olan da də ki o olaraq daha hər ya olduğu kimi sonra edir
            idi edilir görə onun tərəfindən bütün""",
        "ca": """
            el la els les de del dels i a en que per un una amb és al als no es o més
            com aquest aquesta són ha va ser seva també entre fou sobre han pel aquests
            pot cada ni hi ho li tot seu quan fins molt però sense durant primer""",
        "cs": """
            a v na se že je s z do i o k pro jako jsou by po při nebo za to který která
            které od ve ze není ale byl bylo jeho být podle mezi lze byla aby až také
            této tím svých má musí každého u""",
        "da": """
            og i at det er en til af på for med den der de som et har ikke ved fra om
            kan var eller skal efter blev være vi også dette denne mellem nogle hvis må
            hver hos sig så kun op ud andre når hvor disse samt under mod man jeg blive
            dag""",
        "de": """
            der die und in den von zu das mit sich des auf für ist im dem nicht ein eine
            als auch es an werden aus er hat dass sie nach wird bei einer um sind noch
            wie einem über einen so zum war oder durch wenn zur darf jeder muss kann nur
            diese""",
        "en": """
            the of and to in a is that for it as was with be by on not he his but at are
            this have from or which had an were been has their they its such we can than
            these may no if any shall between all over under upon other who""",
        "es": """
            de la que el en y a los se del las un por con no una su para es al lo como
            más o pero sus ha este sí esta entre son cuando muy sin sobre ser también
            fue hasta hay desde está e puede debe cada dicho dicha toda todo había nos
            durante contra día""",
        "et": """
            ja on ei et kui see mis oli ta ning ka selle oma või kes mida pärast üle nii
            aga välja juba veel võib olla tema poolt kuid nende""",
        "eu": """
            eta da du ez bat dira zuen izan zen dute hau den ere baina beste egin dela
            edo izango oso baino bere dituzte diren batean behar artean arte baten""",
        "fi": """
            ja on ei se että oli joka hän ovat sekä tai myös kun mutta ole niin kuin sen
            jos mukaan voi siitä olla vain ennen tämän tämä jotka välillä jälkeen sitä
            joiden""",
        "fr": """
            de la le et les des en un du une que est pour qui dans a par plus pas au sur
            ne se ce il sont avec ou aux son cette d l été être sa ses comme mais nous
            leur entre elle peut doit chaque elles cet fait leurs même si tout ces""",
        "hr": """
            i u je na se da za su od s o kao što a koji koja koje iz ili nije bi biti do
            po ne te samo ako kako bio bila između prema tijekom mora može svakog kod
            ovaj ova ovo nego već sve""",
        "hu": """
            a az és hogy nem is egy ez volt meg de csak ha már van mint azt el vagy még
            szerint által után kell lehet minden amely között alatt sem ezt illetve""",
        "id": """
            yang dan di dari untuk dengan pada ini dalam adalah tidak itu ke sebagai
            oleh atau akan juga telah dapat karena bahwa tersebut secara mereka antara
            ada lebih bagi""",
        "it": """
            di e il la che in a per un è del non una i le con si della da sono al dei
            come anche lo alla più nel gli ma ha delle o se nella dal su stato essere
            tra questo degli dalla deve può ogni cui prima suo sua nei""",
        "lt": """
            ir yra kad į su iš buvo tai kaip o ar bei nuo po apie už jo taip bet dėl jei
            kuris gali būti pagal tarp prie jų""",
        "lv": """
            un ir no par ar kas uz ka tas kā vai bet pēc arī bija lai var pie tā ne šī
            ja to nav starp tiek gadā kuru""",
        "nl": """
            de het een van en in is dat op te voor met zijn niet die aan er om ook als
            bij door naar uit wordt was over maar worden deze of heeft tot tussen kan
            dan werd zij geen haar moet mag elke onder""",
        "no": """
            og i det er som på til en å for av at med de ikke den har et fra om ble var
            kan skal eller også etter være ved dette denne mellom noen hvis seg blir vi
            må hver hos så kun opp ut andre når hvor disse samt under mot man jeg bli
            mer enn dag ingen dem""",
        "pl": """
            i w na z się nie do że jest o jak to po od za a przez dla są oraz ale by tym
            co lub być może przy jego ich tego które który która ze pod między został u
            każdego jej był była będzie tylko także nad""",
        "pt": """
            de a o que e do da em um para é com não uma os no se na por mais as dos como
            mas foi ao ele das tem à seu sua ou ser quando muito há nos já está também
            pelo pela até são entre nas ter pode deve cada este esta isso num numa sem
            dia qualquer lhe pelos sobre""",
        "ro": """
            de și în a la cu care pe din nu să o este un pentru mai că se prin sau au
            fost al unei ca lor lui sunt ale după dintre între fi cele dacă poate
            trebuie fiecare""",
        "sk": """
            a v na sa je že s z do o k pre ako sú by po pri alebo za to ktorý ktorá
            ktoré od vo zo nie ale bol bolo jeho byť podľa medzi možno bola aby až také
            tejto tým má musí každého u""",
        "sl": """
            in je v na se da za so z s po ki pa kot ali tudi od do bi o ne iz pri kar če
            ni biti med bil bila lahko zaradi svoje katerih""",
        "sv": """
            och i att det som en på är av för med den till inte om ett har de från var
            vid kan eller ska efter blev vara detta denna mellan några men också sig
            under vi man får varje hos andra så""",
        "tr": """
            ve bir bu için ile olarak olan da de en çok daha gibi kadar sonra göre ise
            ancak veya ya her tarafından o ne değil olduğu olduğunu arasında üzerinde
            hem""",
        "vi": """
            và của là các có được trong cho không với một này người những đã để khi về
            từ theo đến tại như hoặc phải bị sẽ năm việc làm ở bằng trên""",
    },
    "cyrillic": {
        "bg": """
            на и да за в се от с е не по че са като до или при със които което който ще
            беше във след му има тази този между съгласно както може всеки ако която
            бъде""",
        "kk": """
            және мен бұл үшін деп болып бір ол емес болған туралы бойынша осы да де
            қазақстан керек немесе кейін арасында оның бар""",
        "ru": """
            и в не на что с по он как это но из к за от его для или а о же бы был было
            была при также между если все так которые который со является после у во
            только её их может каждый этого этот того чем""",
        "sr": """
            и у је на се да за су од с о као што а који која које из или није би бити до
            по не те само ако како био била између према""",
        "tg": """
            ва дар аз ба ки бо барои ин он аст мешавад буд ё чунин бояд низ бошад то пас
            байни ҳам карда шуд""",
        "uk": """
            і в не на що з та до у за як від це його для або про при є був було була
            також між якщо які який після щодо може цього кожного їх цей ця тільки""",
    },
    "arabic": {
        "ar": """
            في من على أن إلى عن التي الذي هذا هذه ما لا كان مع أو كما بين بعد لم قد ذلك
            كل هو هي عند غير تم إذا وقد""",
        "fa": """
            و در به از که این را با است برای آن یک خود تا بر هم نیز شده می باید یا کرد
            شد بود اگر بین های دارد""",
        "ur": """
            کے کی میں ہے اور سے کا کو اس نے پر ہیں کہ یہ ایک نہیں تھا کیا بھی ہو تو جو
            گیا لئے لیے اگر""",
    },
    "devanagari": {
        "hi": """
            के में है की और से का को हैं पर कि यह एक ने भी नहीं इस या था लिए हो तो जो कर
            द्वारा गया अपने यदि""",
        "ne": """
            को र मा छ हो पनि लागि छन् गर्न गरेको यो भने तथा वा बाट एक भएको थियो हुन्छ
            गर्ने तर यस""",
    },
}
