"""What people and the bot say: our own sentences, by language, topic and part in the dialogue.

A sentence may name {career}, {fee}, {date} or {place}; a conversation keeps one career, so that an
answer fits its question. Spanish carries the accents and the inverted marks that encodings break.
"""

from __future__ import annotations

from typing import Final

LANGUAGES: Final = ("es", "en", "pt")
TOPICS: Final = ("fees", "dates", "requirements", "scholarships", "exam", "place", "classes")
ROLES: Final = ("question", "answer", "more", "reply", "thanks", "goodbye", "photo", "file",
                "emoji", "poll", "group", "empty")  # fmt: skip

# Career, fee of a term in soles, closing date, campus. Health and engineering cost more.
CAREERS: Final = (
    ("Ingeniería de Sistemas", 1850, "12/12", "Campus Norte"),
    ("Ingeniería Civil", 1920, "12/12", "Campus Norte"),
    ("Ingeniería Industrial", 1840, "12/12", "Campus Norte"),
    ("Ingeniería Ambiental", 1710, "18/07", "Campus Sur"),
    ("Ciencia de Datos", 1990, "20/02", "Campus Norte"),
    ("Medicina Humana", 3400, "20/02", "Campus Salud"),
    ("Enfermería", 1480, "18/07", "Campus Salud"),
    ("Odontología", 2650, "20/02", "Campus Salud"),
    ("Psicología", 1590, "12/12", "Campus Salud"),
    ("Nutrición y Dietética", 1450, "18/07", "Campus Salud"),
    ("Derecho", 1680, "12/12", "Campus Centro"),
    ("Administración", 1520, "12/12", "Campus Centro"),
    ("Contabilidad", 1430, "18/07", "Campus Centro"),
    ("Economía", 1610, "12/12", "Campus Centro"),
    ("Marketing", 1550, "20/02", "Campus Centro"),
    ("Negocios Internacionales", 1640, "20/02", "Campus Centro"),
    ("Arquitectura", 2100, "20/02", "Campus Sur"),
    ("Diseño Gráfico", 1570, "18/07", "Campus Sur"),
    ("Comunicación Audiovisual", 1600, "12/12", "Campus Sur"),
    ("Educación Inicial", 1250, "18/07", "Campus Sur"),
    ("Traducción e Interpretación", 1390, "20/02", "Campus Centro"),
    ("Biología Marina", 1730, "18/07", "Campus Sur"),
    ("Matemática", 1210, "18/07", "Campus Norte"),
    ("Gastronomía", 1780, "20/02", "Campus Sur"),
)

# By part of the day in Lima: night, morning, afternoon, evening; the empty one for the impatient.
OPENERS: Final = {
    "es": ("Hola, ", "Buenos días, ", "Buenas tardes, ", "Buenas noches, ", "Hola!! ", "oye ", ""),
    "en": ("Hi, ", "Good morning, ", "Good afternoon, ", "Good evening, ", "Hello! ", "hey ", ""),
    "pt": ("Oi, ", "Bom dia, ", "Boa tarde, ", "Boa noite, ", "Olá! ", "oi oi ", ""),
}
# What follows a sentence, first in what people write, then in what the bot writes. Emoji need four
# bytes in UTF-8 and a surrogate pair in JSON's escapes; one is a family of joined ones.
TAILS: Final = (
    ("", "", "", "", "", "", " 🙏", " 😊", "!!", " 👀", " 👨‍👩‍👧", " 😅😅"),
    (
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        " 🎓",
        " 😊",
        "\n👉 https://admision.example.edu",
        " ✨",
        "\n\n🤖",
    ),
)

# The long answers pass 2 kB with their JSON, so that some rows are compressed or moved to TOAST.
_LONG_ES = """Para postular a {career} necesitas:
1. Ficha de inscripción firmada por ti y, si eres menor de edad, por tu apoderado.
2. Copia del DNI o del carné de extranjería, por ambas caras y en un solo archivo.
3. Certificado de estudios de los cinco años de secundaria, visado o con código QR.
4. Una fotografía reciente, a color, con fondo blanco y sin lentes (máximo 2 MB).
5. Comprobante de pago del derecho de admisión; guarda el voucher original hasta la matrícula.
6. Declaración jurada de salud; para las carreras de Ciencias de la Salud, además, el carné de \
vacunación completo con las tres dosis contra la hepatitis B.
7. Si vienes por traslado: sílabos sellados, récord de notas y constancia de no haber sido separado.
8. Si vienes por tercio superior: constancia de orden de mérito emitida por tu colegio.
Todo se sube en PDF a la plataforma "Mi Postulación". El plazo vence el {date} a las 23:59, hora \
de Lima. Los expedientes incompletos pasan a la convocatoria siguiente y el pago no se devuelve. \
Si algo no carga, escríbenos por aquí con una captura de pantalla y lo revisamos contigo. También \
puedes traer los originales a la oficina de Admisión del {place}, de lunes a viernes de 8:00 a \
17:00 y los sábados de 9:00 a 13:00; lleva un USB por si hay que escanear."""

TOPICAL: Final[dict[str, dict[str, dict[str, tuple[str, ...]]]]] = {
    "es": {
        "fees": {
            "question": (
                "¿cuánto cuesta la matrícula de {career}?",
                "quisiera saber la pensión de {career}",
                "¿el pago de {career} se puede hacer en cuotas?",
                "precio de {career} x favor",
            ),
            "answer": (
                "La cuota mensual de {career} es S/ {fee}. La matrícula se paga una vez por ciclo.",
                "{career}: S/ {fee} al mes, en cinco cuotas. ¿Deseas el cronograma de pagos?",
                "Puedes fraccionar: la primera cuota de {career} (S/ {fee}) vence el {date}.",
            ),
        },
        "dates": {
            "question": (
                "¿hasta cuándo puedo inscribirme en {career}?",
                "¿cuándo empiezan las clases de {career}?",
                "¿todavía hay vacantes para {career}?",
            ),
            "answer": (
                "Las inscripciones de {career} cierran el {date} a las 23:59.",
                "Sí, aún quedan vacantes en {career}. El plazo es el {date}.",
                "El ciclo empieza tres semanas después del cierre ({date}).",
            ),
        },
        "requirements": {
            "question": (
                "¿qué documentos piden para {career}?",
                "¿necesito certificado de estudios para {career}?",
                "me falta el DNI de mi hijo, ¿igual puede postular a {career}?",
            ),
            "answer": (
                "Para {career}: DNI, certificado de estudios y foto. Súbelos antes del {date}.",
                'Adjunta todo en un solo PDF en "Mi Postulación" y te confirmamos por aquí.',
                "Sí puede, con una declaración jurada. El DNI se presenta hasta el {date}.",
                _LONG_ES,
            ),
        },
        "scholarships": {
            "question": (
                "¿hay becas para {career}?",
                "soy de tercio superior, ¿qué descuento tengo en {career}?",
                "¿aceptan Beca 18 en {career}?",
            ),
            "answer": (
                "Sí: media beca y beca completa en {career}. Se postula hasta el {date}.",
                "Con tercio superior, {career} baja de S/ {fee} con 25 % de descuento.",
                "Aceptamos becas del Estado. Trae tu constancia al {place}.",
            ),
        },
        "exam": {
            "question": (
                "¿qué entra en el examen de {career}?",
                "¿el examen de {career} es presencial?",
                "¿con cuánto se ingresa a {career}?",
            ),
            "answer": (
                "El examen de {career} tiene 80 preguntas: razonamiento, ciencias y lectura.",
                "Es presencial, en el {place}. Llega 45 minutos antes con tu DNI.",
                "El puntaje mínimo del último proceso en {career} fue 11,75 sobre 20.",
            ),
        },
        "place": {
            "question": (
                "¿dónde se estudia {career}?",
                "¿cómo llego al {place}?",
                "¿puedo visitar los laboratorios de {career}?",
            ),
            "answer": (
                "{career} se dicta en el {place}. Te envío la ubicación 📍",
                "Hay visitas guiadas al {place} los sábados a las 10:00. ¿Te inscribo?",
                "Desde el Metropolitano baja en la estación Universidad y camina dos cuadras.",
            ),
        },
        "classes": {
            "question": (
                "¿{career} tiene horario de noche?",
                "trabajo en las mañanas, ¿puedo llevar {career} semipresencial?",
                "¿cuántos ciclos son en {career}?",
            ),
            "answer": (
                "{career} tiene turnos de mañana y noche; desde el tercer ciclo eliges.",
                "Hay modalidad semipresencial para {career}: dos noches por semana en el {place}.",
                "Son diez ciclos, salvo Medicina Humana, que dura catorce.",
            ),
        },
    },
    "en": {
        topic: {"question": questions, "answer": answers}
        for topic, questions, answers in (
            ("fees", ("how much is the tuition for {career}?", "can I pay {career} by card?"),
             ("{career} is S/ {fee} a month. Cards and bank transfers are both fine.",)),
            ("dates", ("when is the deadline for {career}?",),
             ("You can apply to {career} until {date}, 23:59 Lima time.",)),
            ("requirements", ("which documents does an exchange student need for {career}?",),
             ("Passport, transcript and a motivation letter. Please upload them by {date}.",)),
            ("scholarships", ("are there scholarships for foreigners in {career}?",),
             ("Yes, partial ones: they cover a quarter of S/ {fee}.",)),
            ("exam", ("do I have to sit the exam for {career} in person?",),
             ("International applicants take it online; others at {place}.",)),
            ("place", ("where is {place}?",),
             ("Fifteen minutes from the centre by bus. Here's the location 📍",)),
            ("classes", ("is {career} taught in English?",),
             ("Some courses are; {career} asks for B1 Spanish by the second term.",)),
        )
    },
    "pt": {
        topic: {"question": questions, "answer": answers}
        for topic, questions, answers in (
            ("fees", ("quanto custa a mensalidade de {career}?",),
             ("A mensalidade de {career} é S/ {fee}. Não há taxa de matrícula no intercâmbio.",)),
            ("dates", ("até quando posso me inscrever em {career}?",),
             ("As inscrições de {career} vão até {date}.",)),
            ("requirements", ("quais documentos preciso para {career}?",),
             ("Passaporte, histórico escolar e comprovação de espanhol até {date}.",)),
            ("scholarships", ("vocês têm bolsas para {career}?",),
             ("Temos! A bolsa reduz os S/ {fee} em até 50 %.",)),
            ("exam", ("a prova de {career} é online?",),
             ("Para brasileiros é online; a redação é presencial, no {place}.",)),
            ("place", ("onde fica o {place}?",),
             ("Fica perto da estação. Segue a localização 📍",)),
            ("classes", ("as aulas de {career} são à noite?",),
             ("Há turmas de manhã e à noite em {career}.",)),
        )
    },
}  # fmt: skip

GENERAL: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "es": {
        "more": ("¿y para traslado externo?", "ok, ¿y con quién hablo?", "no me carga la página",
                 "ya pagué, adjunto voucher", "¿me puede llamar alguien?", "es para mi hija", "sí",
                 "¿sigue ahí?", "no entendí la última parte", "y si trabajo?", "ya", "mmm ok"),
        "reply": ("Claro, te explico paso a paso.", "Un asesor te llamará hoy antes de las 18:00.",
                  "Recibido ✅ Validamos tu pago en 24 horas.", "¿Te ayudo con algo más?",
                  "Prueba desde otro navegador o en modo incógnito, por favor.",
                  "Ese trámite se hace en el {place}, ventanilla 4.",
                  "Escribe *1* para cuotas, *2* para becas o *3* para hablar con una persona."),
        "thanks": ("muchas gracias", "gracias!", "perfecto, gracias", "graciass", "listo 👍",
                   "Dios le bendiga"),
        "goodbye": ("¡Gracias a ti! Te esperamos en {career}.", "Con gusto. ¡Mucho éxito!",
                    "Estamos para ayudarte 🎓"),
        "photo": ("voucher de pago", "mi DNI por ambos lados", "así me sale la pantalla",
                  "foto 3x4"),
        "file": ("Malla curricular de {career}", "Brochure de admisión 2026",
                 "Cronograma de pagos"),
        "group": ("alguien ya recibió el correo?", "la charla de {career} es a las 7",
                  "chicos, el {date} cierra todo", "jajaja sí", "¿quién va al {place} mañana?",
                  "yo también estoy en {career}", "pasen el link pls", "*OJO* cambiaron el aula",
                  "felicidades a todos!!", "se cayó la página otra vez 😤"),
        "poll": ("¿Qué día prefieren la charla de {career}?",),
    },
    "en": {
        "more": ("and for a transfer?", "the page does not load", "could someone call me?", "ok",
                 "just paid, see attached"),
        "reply": ("Sure, let me walk you through it.", "An adviser will call you today.",
                  "Got it ✅ We'll confirm within 24 hours.", "Anything else I can help with?"),
        "thanks": ("thanks a lot", "thank you!", "great, thanks", "cheers"),
        "goodbye": ("You're welcome! See you in {career}.", "My pleasure. Good luck! 🎓"),
        "photo": ("payment receipt", "my passport"),
        "file": ("Syllabus of {career}", "Admission brochure 2026"),
        "group": ("did anyone get the e-mail?", "see you at {place} tomorrow", "lol yes"),
        "poll": ("Which day suits you for the {career} talk?",),
    },
    "pt": {
        "more": ("e para transferência?", "a página não abre", "alguém pode me ligar?", "tá bom"),
        "reply": ("Claro, explico passo a passo.", "Um consultor vai ligar hoje.",
                  "Recebido ✅ Confirmamos em 24 horas.", "Posso ajudar em algo mais?"),
        "thanks": ("muito obrigada", "obrigado!", "valeu", "perfeito, obrigado"),
        "goodbye": ("Nós que agradecemos! Até breve em {career}.", "Boa sorte! 🎓"),
        "photo": ("comprovante de pagamento", "meu passaporte"),
        "file": ("Grade curricular de {career}", "Folheto de admissão 2026"),
        "group": ("alguém recebeu o e-mail?", "nos vemos no {place} amanhã", "kkkk sim"),
        "poll": ("Que dia preferem a palestra de {career}?",),
    },
}  # fmt: skip

# An empty reaction is one that was taken back: the text is '' and not NULL.
EMOJI: Final = ("👍", "❤️", "🙏", "😂", "🎉", "😮", "")

FIRST_NAMES: Final = (
    "María", "José", "Luis", "Ana", "Carlos", "Lucía", "Jorge", "Rosa", "Miguel", "Sofía",
    "Andrés", "Valeria", "Diego", "Camila", "Renzo", "Ximena", "Álvaro", "Fiorella", "Martín",
    "Daniela", "Iván", "Noemí", "Óscar", "Úrsula", "Begoña", "João", "Beatriz", "Thiago",
    "Emily", "Oliver", "Grace", "Quispe-Juan", "Milagros", "Kevin", "Brenda", "Yadira",
)  # fmt: skip
SURNAMES: Final = (
    "Quispe", "Flores", "Rodríguez", "Mamani", "García", "Huamán", "Rojas", "Núñez", "Chávez",
    "Ramírez", "Castañeda", "Peña", "Vásquez", "Ibáñez", "Silva", "Gonçalves", "Souza", "Araújo",
    "Smith", "O'Brien", "Müller", "Condori", "Ñahui", "Espinoza", "Yupanqui", "Salazar",
    "Torres", "Vega", "Zúñiga", "León",
)  # fmt: skip
# What people add to their name themselves.
NAME_TAILS: Final = ("", "", "", "", "", "", " 🌻", " (mamá)", " ✨", " - UNI 2026")
GROUP_NAMES: Final = ("Admisión 2026 · {career}", "Padres {career}", "Cachimbos {career} 🎓",
                      "Becas {career}", "Delegados {career}", "Charlas {career}")  # fmt: skip
LABELS: Final = (
    "[]",
    "[]",
    "[]",
    '["interesado"]',
    '["pago pendiente"]',
    '["beca"]',
    '["matriculado"]',
    '["interesado","beca"]',
    '["urgente","pago pendiente"]',
)
