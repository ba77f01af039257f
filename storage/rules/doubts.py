"""Requests to be left alone that are no plain stop word: `please stop texting me`, `wrong number`, `no more messages`.

Whoever writes one is asked back, and nothing is sent meanwhile (`contacts/consent.py`); so a false alarm costs one question and a
miss an unwanted text.  What is a stop word by itself, `rules/optout.py` decides first.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from storage.rules.normalize import key
from storage.rules.optout import LINE_END, LOOKALIKES, is_written, letters, read, stop_readings


class Doubt(NamedTuple):
    """How one language asks to be left alone in more than a word; the parts of all languages are read together.

    People mix them (`stop kutuma sms`).  Each part lists words or phrases, with commas between them.
    """

    alone: str = ""
    """Asks for it when the rest of its clause is `polite`: `ok stop it please`."""
    order: str = ""
    """Asks for it when it begins a clause without `between`, and at most three words follow: `stop this rubbish`."""
    close: str = ""
    """Asks for it when it ends the clause, politeness aside: `I lost the baby please stop`."""
    polite: str = ""
    """May stand round the words that ask, and changes nothing."""
    off: str = ""
    """Asks for it when a word of `texting` follows, with at most four words between: `no more of these messages`."""
    texting: str = ""
    """What we do, as verbs and things."""
    never: str = ""
    """Asks for it when a word of `do` follows at once or after one other word: `dont ever text`."""
    do: str = ""
    """What we are told not to do."""
    drop: str = ""
    """Asks for it when a word of `record` stands on either side, with at most four words between: `take me out of your list`."""
    record: str = ""
    """Where we keep people."""
    after: str = ""
    """Asks for it when it ends the clause, with at most four words between it and a word of `texting`: `sms band karo`."""
    said: str = ""
    """Asks for it wherever it stands: `wrong number`."""
    between: str = ""
    """Between `off` and `texting`, something else is left off: `stop the pills and text me`."""
    unless: str = ""
    """Makes nothing of its clause: `dont stop texting me`."""
    elsewhere: str = ""
    """Right behind a stop word that begins a text, it makes another word of it: `stop by later`, `stop sign`."""


DOUBTS: Mapping[str, Doubt] = {
    "en": Doubt(
        alone="stop, stopit, sotp, stpo, stip, quit, cancel, end, remove, revoke, unsubscribe, unsubcribe, "
        "unsuscribe, unsub, opt out, optout, opting out, go away, not interested, no longer interested, "
        "do not disturb, no texts, no text, no txts, no txt, no messages, no msgs, no msg, no sms, no calls, "
        "no spam, stahp, stap, desist, discontinue, get lost, shut up, fuck off, f off, piss off, back off, "
        "withdraw, pleasestop, plsstop, plzstop, cut it out, knock it off, enough is enough, unsubscribing, "
        "count me out, no texting, leave me, leave us, dont send, do not send, dont want these, "
        "dont want those, dont want this anymore, dont want it anymore, no more of those, no more of these, "
        "not receiving these anymore",
        polite="please, pls, plz, plse, plis, kindly, thanks, thank you, thx, sorry, sir, madam, doctor, hi, hello, "
        "hey, ok, okay, no, yes, but, and, now, just, already, it, this, that, these, them, all, i, im, am, "
        "me, we, u, ur, you, your, can, could, will, would, want, wanna, like, to, said, say, told, tell, "
        "asked, ask, ever, again, at once, immediately, today, here, too, really, so, from, for, good, then, "
        "bro, bros, man, sis, brother, sister, mama, maam, ma, guys, people, serious, seriously, hear, "
        "understand, abeg, beg, oh, o, fucking, fuckin, fuck, damn, dis, d, da, dat, with, have, had, "
        "enough, doing, must, should you, once, more, right, asap, immediatly, my, dear, friend, anymore, "
        "any more, id, may",
        off="stop, stoping, stip, stpo, sotp, sto, quit, cease, end, cancel, unsubscribe, opt out, opt me out, "
        "dont want, dnt want, do not want, dont wanna, dnt wanna, dont need, dnt need, do not need, "
        "dont like, do not like, dont wish, do not wish, didnt want, never wanted, no longer, no more, "
        "no mor, not want, enough, tired of, sick of, fed up, remove me from, stahp, stap, stopin, desist, "
        "desist from, refrain, refrain from, discontinue, too many, too much, so many, you keep, u keep, "
        "keep on, no need, dont need any, not need, not interested in, didnt agree, dont agree, "
        "do not agree, not agree, dont consent, withdraw, withdraw me, hate, unwanted, annoyed by, "
        "without any more, kindly end, put an end, wana stop, done with, rather not, never want, why keep, "
        "why do you keep, exit from, leave this, turn off, switch off, mute, cancel the, get rid of, "
        "dont have time for, dont care about, no further, any further, no want, no send",
        texting="text, texts, texting, textin, texing, txt, txts, txting, txtin, msg, msgs, msging, message, "
        "messages, messaging, messageing, mesages, mesaging, mesage, massages, sms, smses, smsing, sending, "
        "sendin, sendng, contacting, calling, calls, writing, reminders, reminder, notifications, alerts, "
        "updates, spam, spaming, harassing, harasing, bothering, disturbing, annoying me, pestering, "
        "this program, this service, the program, the programme, contact, contacted, emails, communication, "
        "bombarding, flooding, disturbance, program, programme, group, alert, pinging, ping, inbox, "
        "inboxing, texted, messaged, subscription, stoptexting, wasting my, filling my, bugging me, bugging, "
        "wasting, filling, stalking, this study, the study, the service, participate, participating, "
        "taking part, chats, chatting, whatsapp, voice notes, advert, adverts, promotions",
        never="dont, dnt, dont ever, dont u, do not, donot, dont you, never, stop to, you to not, not to",
        do="text, txt, msg, message, sms, send, contact, call, write, reply, disturb, bother, texting, sending, "
        "spam, bug, annoy, ping, inbox, harass, email, textin, mesage, snd, sent, txting",
        after="stop, to stop, must stop, should stop, need to stop, have to stop, would stop, to end, must end, "
        "should end, annoying, anoying, disturbing, disturbing me, bothering me, irritating, irritating me, "
        "bother me, disturb me, too much, are too many, a nuisance, unwanted, not wanted, not welcome",
        said="wrong number, wrong num, wrong numba, wrong namba, wrong nmbr, wrong no, wrong phone, wrong person, "
        "number is wrong, leave me alone, leave us alone, leave me be, leave me in peace, leav me alone, "
        "take me off, take us off, take my name off, take my number off, take off my number, "
        "get me off this, get me off your, get me off the list, remove me, remove us, remove my number, "
        "remove my name, remove my phone, remove this number, delete me, delete my number, "
        "delete this number, erase my number, lose my number, forget my number, block me, want out, "
        "let me out, to unsubscribe, do i unsubscribe, unsubscribe me, unsubscribe from, unsubscribe this, "
        "please unsubscribe, unsub me, want to opt out, do i opt out, opt me out, opt out of, "
        "cancel my subscription, didnt sign up, did not sign up, never signed up, never asked for, "
        "didnt ask for, didnt subscribe, never subscribed, this is spam, harassment, stop u r, "
        "send me nothing, told you to stop, want to stop geting, stp texting, stp txting, stp txtin, "
        "stp msging, stp sending, stp texts, wrng number, wrong numbr, rong number, wrong nuber, "
        "wrong contact, wrong line, wrong recipient, by that name, you are disturbing, u are disturbing, "
        "ur disturbing, youre disturbing, u r disturbing, you are bothering, u are bothering, "
        "youre bothering, u r bothering, you are annoying, u are annoying, youre annoying, "
        "you are harassing, get lost, fuck off, piss off, f off, fuck you, go to hell, mind your business, "
        "mind your own, my phone alone, let me be, get out of my, my consent, not consent, dont consent, "
        "withdraw me, deregister me, unregister me, exclude me, me removed, nothing from you, report you, "
        "report u, reporting you, reporting u, im reporting, stop it already, im done with, "
        "who gave you my number, who gave u my number, where did you get my number, "
        "how did you get my number, im blocking, will block, am blocking, blocked you, blocking you, "
        "no longer his number, no longer her number, not his number, not her number, isnt his number, "
        "isnt her number, not your patient, not a patient, dont know you, do not know you, dont know u, "
        "dont know this person, mistaken identity, please stop texting, take me out of this, "
        "not want to hear from, dont want to hear from, dnt want to hear from, never want to hear from, "
        "want anything from you, want nothing from you, want to be part of, want to be a part of, "
        "want to be in this program, want to leave the program, leave this program, leave the programme, "
        "stoptexting, stopmessaging, stopsending, stopcalling, stopit, not the right person, not the person, "
        "not the owner, not the right number, isnt the right number, belongs to someone else, "
        "belongs to another, belongs to somebody else, someone else now, somebody else has this, "
        "changed owner, longer uses this, longer uses the, longer has this, longer owns, "
        "not use this number anymore, withdraw from the study, withdraw from the program, "
        "withdraw from this, off this list, off the list, off your list, off ur list, out of this group, "
        "get out of this, done with this study, opt me, take my num, take my no off, take this number out, "
        "leave the study, leave this study, stop bothering, not mine this number, asked you to stop, "
        "asked u to stop, told u to stop, i say stop, means stop, text to stop, here stop, understand stop, "
        "no msgs anymore, no texts anymore, no messages anymore, delete this contact, count me out, "
        "like to opt out, you guys not text, u not text me, you not text me, you not message me, "
        "you not call me, you people not text, gave you permission, never gave permission, no send message, "
        "no want message",
        between="pill, pills, tablet, tablets, medicine, medicines, medication, meds, drug, drugs, injection, "
        "injections, treatment, appointment, visit, taking, bleeding, pain, vomiting, coughing, crying, "
        "breastfeeding, feeding, smoking, drinking, eating, surgery, implant, coil, miss, lose, airtime, "
        "syrup, feeds, porridge, contraceptive, family planning, card, scan, vaccine, needles, drip, dose, "
        "doses, transport, water, food, milk, salt, booking, help, friday, monday, by, at, sign, giving, "
        "using, over, in, near, on, bus, work, school, sex, sugar, arvs, panadol, baby, breast, swelling, "
        "how, or, when, until, till, if, which, then, alcohol, fever, cough, what",
        unless="dont stop, do not stop, not stop, doesnt stop, wont stop, cant stop, never stop, why did, did the, "
        "no longer getting, no longer receiving, not getting, not received, end of, bus stop, i gave, "
        "remove it, should i stop, when do i, when can i, when should i, should we stop, can we stop, "
        "when will, do not get, didnt get, did not get, not get, please keep, pls keep, will it go away, "
        "it will go away, it go away, will go away, will it, would it, does it, did it, do i text",
        drop="remove, removed, delete, deleted, erase, exclude, withdraw, scratch, unlist, deregister, "
        "unregister, take off, take me out, take us out, take me from, get me out, cancel my, drop me, "
        "take this number, take that number, take my num, take my phone, get out, get off",
        record="your list, ur list, this list, the list, mailing list, list, my number, my num, my no, my contact, "
        "my contacts, my name from, your system, the system, ur system, database, records, my phone number, "
        "my details, subscription, my registration, your phone, your contacts, your records, ur records, "
        "this study",
        order="stop, stp, please stop, pls stop, plz stop, kindly stop, just stop, ok stop, hey stop",
        close="please stop, pls stop, plz stop, kindly stop",
        elsewhere="sign, signs, cock, watch, light, point, tb, aids, hiv, malaria, polio, number, of, off, up, here, there, "
        "yesterday, working, sida, sign board, street, ticket, bit, over, smoking, drinking",
    ),
    "ar": Doubt(
        alone="توقف, توقفوا, قف, أوقف, أوقفوا, كفى, كفاية, خلاص كفاية, توقفي, وقف, بطلوا, انسحاب",
        polite="من فضلك, من فضلكم, لو سمحت, لو سمحتم, رجاء, الرجاء, أرجوك, أرجوكم, شكرا, الآن, أريد, يا, جماعة, "
        "أخي, اختي, فورا, حالا",
        off="توقف عن, توقفوا عن, أوقف, أوقفوا, لا أريد, لا نريد, ما أبغى, ما أبي, ما بدي, مش عايز, مش عايزة, "
        "مش عاوز, كفاية, كفى, إلغاء, إيقاف, لا أحتاج, بطلوا, التوقف عن, وقف, وقفوا, لا أرغب, لا أود, ما نبي, "
        "ما عايز, مو عايز, ما ودي, بطل, بطلو, أرجو عدم, الرجاء عدم, رجاء عدم, عدم, كفاكم, ارفض, أرفض, "
        "زهقت من, تعبت من",
        texting="رسالة, رسائل, الرسائل, رسايل, الرسايل, رسائلكم, رسايلكم, إرسال, الإرسال, مراسلتي, إزعاجي, الاتصال, "
        "رسا*, الرسا*, تصلني, ارسال, التواصل, مراسل*, إزعاج, المراسلة, اتصال, مسجات, المسجات, مسج, sms, "
        "تبعتولي, ترسلولي, ترسلون*, ترسلوا, ترسل",
        never="لا, ما, بلاش",
        do="ترسل, ترسلوا, ترسلي, ترسلون, تراسلوني, تراسلني, تزعجوني, تزعجني, تتصلوا, تتصل, تبعتوا, تبعث, "
        "تبعثوا, تكلموني, ترسل*, تراسل*, تزعج*, تتصل*, تبعت*, تبعث*, تكلم*, تكتب*, تتواصل*, تدق*, ترسلولي",
        said="الرقم غلط, رقم غلط, رقم خطأ, الرقم خطأ, الرقم خاطئ, رقم خاطئ, الرقم الخطأ, احذفوا رقمي, احذف رقمي, "
        "احذفني, احذفوني, أزيلوا رقمي, أزل رقمي, امسحوا رقمي, امسح رقمي, اتركوني, اتركني, دعوني وشأني, "
        "إلغاء الاشتراك, إلغاء اشتراكي, الغوا اشتراكي, غلطان في الرقم, غلطانين, غلطان بالرقم, النمرة غلط, "
        "نمرة غلط, الشخص الخطأ, ليس رقم, ليس رقمي, مو رقم, مش رقم, من أين حصلت على رقمي, من وين جبت رقمي, "
        "حلوا عني, حل عني, سيبوني, سيبني, خلوني في حالي, إزعاج, ازعجتوني, تزعجونني, الرقم ليس, ليس رقمها, "
        "ليس رقمه",
        between="الموعد, موعدي, الحقنة, الدواء, أخذ",
        drop="احذف*, شيل*, امسح*, ازل, أزيل*, ازيل*, الغي, الغوا, حذف, إزالة, إلغاء, اخرج*",
        record="رقمي, الرقم, القائمة, اللائحة, اسمي, اشتراكي, بياناتي, قائمتكم",
        unless="لا توقف, متى",
    ),
    "de": Doubt(
        alone="aufhören, aufhoeren, stoppen, abmelden, abbestellen, hört auf, hör auf, hören sie auf, "
        "hoeren sie auf, schluss, genug, es reicht, reicht jetzt, stoppt, stop, stopp, keine sms, "
        "keine nachrichten, nicht mehr schreiben",
        polite="bitte, danke, sofort, endlich, damit, jetzt, ich, möchte, moechte, will, mich, an, mehr, doch, mal, "
        "mit, es, sie, ihr, das, nun, dies, alles",
        off="will keine, möchte keine, moechte keine, will ich keine, möchte ich keine, wünsche keine, "
        "brauche keine, hör auf, hört auf, hören sie auf, hoeren sie auf, bitte keine, keine weiteren, "
        "bitte nicht mehr, hör bitte auf, hört bitte auf, hören sie bitte auf, will nichts, möchte nichts, "
        "will nicht, möchte nicht, will ich nicht, genug, zu viele, schluss mit, stoppt, stoppen sie, "
        "unterlassen sie, verzichte auf, kein interesse an, keine lust auf, stopp",
        texting="nachricht, nachrichten, texte, schreiben, schreib, schreibt, schicken, schickt, schick, senden, "
        "sendet, anrufen, anzurufen, rufen, texten, kontaktieren, belästigen, von euch hören, "
        "von ihnen hören, von euch, von ihnen, mir zu schreiben, sms von, angeschrieben, angerufen, "
        "kontaktiert, belästigt, belästigung, texte von",
        after="stoppen, abbestellen, beenden, einstellen, nicht mehr, nichts mehr, keine mehr, nervt, nerven, "
        "stören, stört, unerwünscht, aufhören, zu viel, abstellen",
        said="falsche nummer, falschen nummer, in ruhe, von der liste, von ihrer liste, aus der liste, "
        "lösche meine nummer, löschen sie meine nummer, löscht meine nummer, loeschen sie meine nummer, "
        "mich abmelden, keine sms mehr, keine nachrichten mehr, keine texte mehr, keine anrufe mehr, "
        "verwählt, kein interesse, verpiss, hau ab, haut ab, falsche person, falschen person, "
        "nicht die nummer von, nicht meine nummer, woher haben sie meine nummer, "
        "woher habt ihr meine nummer, nicht interessiert, sie stören mich, ihr nervt, sie nerven, "
        "mich austragen, mich streichen, widerrufe, löschen sie mich, lösche mich, löscht mich, "
        "loeschen sie mich",
        between="tabletten, medikamente, spritze, termin",
        unless="bekomme keine, erhalte keine, habe keine, kriege keine, verstehe, zu verstehen, nicht bekommen, "
        "nicht erhalten",
        drop="löschen, lösche, löscht, entfernen, entfernt, entferne, streichen, streicht, loeschen, austragen",
        record="nummer, liste, verteiler, daten, kontakt",
        close="bitte aufhören",
    ),
    "es": Doubt(
        alone="parar, pare, paren, basta, detener, deténganse, cancelar, desuscribir, desuscribirme, "
        "no gracias ya no, ya paren, suficiente, déjenme, déjame, se equivocó",
        polite="por favor, porfavor, porfa, ya, gracias, quiero, deseo, hola, señor, señora, ahora, y, el, lo",
        off="no quiero, no deseo, no más, ya no quiero, no necesito, deje de, dejen de, deja de, basta de, "
        "pare de, paren de, para de, parar, cancelar, cancelen, dejar de recibir, cansado de, cansada de, "
        "ya paren de, dejar de, no deseamos, ya no deseo, suspender, suspendan, cancele, alto a, demasiados, "
        "muchos, hartos de, harto de, harta de",
        texting="mensaje, mensajes, mensajitos, msj, msjs, enviarme, mandarme, escribirme, enviar, mandar, enviando, "
        "mandando, molestar, molestarme, molestando, llamarme, textos, textearme, recordatorios, "
        "escribiéndome, mandándome, enviándome, msgs, texto, llamadas, notificaciones, me escriban, "
        "me manden, me envíen, me llamen",
        never="no me, no nos, ya no me, nunca me, ya no",
        do="manden, mande, mandes, envíen, envíe, envíes, escriban, escriba, escribas, llamen, llame, llames, "
        "molesten, moleste, molestes, contacten, contacte, texteen, textees, textee, busquen, insistan, "
        "mensajeen, fastidien, fastidie, envíen mensajes, escribir",
        said="número equivocado, numero incorrecto, equivocado de número, equivocó de número, "
        "equivocaron de número, déjenme en paz, déjame en paz, déjeme en paz, quítenme de, quíteme de, "
        "quítame de, sáqueme de, sáquenme de, sácame de, bórrenme, bórreme, borren mi número, "
        "borre mi número, borra mi número, elimine mi número, eliminen mi número, elimina mi número, "
        "darme de baja, deme de baja, denme de baja, no enviar más, no mandar más, está molestando, "
        "están molestando, me molestan, no soy esa persona, no conozco a, persona equivocada, "
        "número está mal, no es el número de, quién les dio mi número, no quiero recibir nada, "
        "no quiero nada de ustedes, no quiero nada más de ustedes, no escriban, no escriba, no manden, "
        "no envíen, no envíe mensajes, no molesten, no molestar, no llamen, para ya, paren ya, "
        "ya no me interesa, no me interesa, soy esa persona, no soy yo número, quiero dar de baja, "
        "me equivocaron, se equivocó de, se equivocó señor, quiero salir de",
        between="cita, inyección, pastilla, pastillas, medicina, medicinas, hijos, dolor",
        drop="quitar, quiten, quite, quita, borrar, borren, borre, borra, eliminar, eliminen, elimine, sacar, "
        "saquen, saque, remover, cancelar, retirar, retiren, retire",
        record="lista, mi número, su lista, la lista, mis datos, mi suscripción, registro",
        close="por favor pare, por favor paren",
    ),
    "fr": Doubt(
        alone="arrêtez, arrête, arrêter, stoppez, ça suffit, cessez, désabonner, désinscrire, annuler, "
        "foutez le camp, fichez le camp, stop ça, dégage, dégagez, laissez moi, laisse moi",
        polite="svp, stp, s il vous plaît, s il te plaît, sil vous plait, merci, ça, bonjour, maintenant, je veux, "
        "tout de suite, oui, non, s il, s, monsieur, madame, je vous prie, de grâce, tout, vous, pardon",
        off="arrêtez, arrête, arrêter, cesser, cessez, plus de, plus aucun, ne veux plus, veux plus, veux pas, "
        "voulons plus, souhaite plus, souhaite pas, désire plus, assez de, annuler, marre de, ne plus, "
        "stoppez, trop de, fini les, je refuse, refuse",
        texting="texto, textos, m envoyer, envoyer, m écrire, écrire, menvoyer, mecrire, déranger, m appeler, "
        "contacter, rappels, recevoir de sms, relances, spam, contactée, contacté, vos sms",
        never="ne m, ne me, ne nous, n, plus m, pas m",
        do="envoyez, envoyer, envoie, écrivez, écris, écrire, contactez, appelez, appelle, dérangez, dérange, "
        "textez, harcelez, importunez, embêtez, ecrivez, contacter, appeler, déranger",
        said="mauvais numéro, faux numéro, trompez de numéro, trompe de numéro, trompé de numéro, "
        "trompés de numéro, erreur de numéro, laissez moi tranquille, laisse moi tranquille, "
        "laissez moi en paix, laisse moi en paix, fichez moi la paix, foutez moi la paix, retirez moi, "
        "retire moi, enlevez moi, enlève moi, supprimez mon, supprimez moi, effacez mon numéro, "
        "efface mon numéro, désabonnez moi, me désabonner, me désinscrire, désinscrivez moi, "
        "vous me dérangez, tu me déranges, me dérange, vous avez le mauvais, mauvaise personne, "
        "pas le bon numéro, pas mon numéro, pas son numéro, foutez le camp, foutez moi, "
        "ne veux plus rien recevoir, ne veux plus rien, qui vous a donné mon numéro, me retirer, "
        "pas la bonne personne, connais pas cette personne, pas intéressé*, pas intéressée stop, "
        "ça ne m intéresse, ne m intéresse pas, veux plus rien recevoir",
        between="comprimés, comprimé, médicaments, médicament, rendez, pilule, injection, douleur, fièvre, enfants",
        unless="n ai plus, n ai pas, n avons plus, n arrête pas, n arrêtez pas, arrêtez pas",
        drop="retirer, retirez, retire, enlever, enlevez, enlève, supprimer, supprimez, supprime, effacer, "
        "effacez, efface, ôtez, rayez, sortez",
        record="liste, mon numéro, mes coordonnées, mon contact, mon nom, mes données",
        close="svp arrêtez",
    ),
    "ha": Doubt(
        alone="daina, ku daina, a daina, ku bari, ya isa, dena, ku dena, ku bar, haka ya isa",
        polite="don allah, dan allah, na gode, yanzu, ni, da ni, ko, fa",
        off="ku daina, a daina, daina, ka daina, kar ku, kada ku, kar ka, kada ka, kar a, kada a, ba na son, "
        "bana son, bana so, ba na so, ba ma so, bana bukatar, ba na bukatar, ba na bukata, ban son, kar ki, "
        "ki daina, ku dena, dena, a dena, na gaji da, ku bar, ya isa, ba na bukatan",
        texting="sako, sakon, sakonni, sakonku, saƙo, saƙonni, turo, tura, damuna, damu na, kirana, rubuto, aiko, "
        "aika, kira, rubuta, damun, text, aikawa, turawa, takura, waya, sakonnin, sakon ku, sakonninku",
        said="ku bar ni, ka bar ni, ku kyale ni, ku ƙyale ni, ka kyale ni, ku cire ni, a cire ni, ka cire ni, "
        "ku cire lambata, ku goge lambata, lambar ba daidai, ba daidai ba ce lambar, kuskuren lamba, "
        "ba lambar ta ba ce, ba lambata ba, ba lambar, lambar kuskure, kuskure lamba, wrong lamba, "
        "ku rabu da ni, ka rabu da ni, rabu da ni, ku bar damuna, kuna damuna, ba ni ba ne, ba ni bane",
        between="shan, magani, allura",
        drop="cire, ku cire, a cire, goge, ku goge, fitar",
        record="lamba, lambata, jerin, sunana, list",
    ),
    "hi": Doubt(
        alone="band karo, band kro, band karen, band kar do, band kijiye, bas karo, bas kro, बंद करो, बंद करें, "
        "बंद कर दो, बंद कीजिए, बस करो, बस कीजिए, रोको, ruk jao, chup, bas kijiye, rok do, रुक जाओ, रोक दो, "
        "bandh karo, bnd karo, band kardo",
        polite="kripya, ji, bhai, ab, yaar, aur, yeh, ye, abhi, कृपया, जी, अब, प्लीज, प्लीज़, यह, ये, अभी, भाई, "
        "plz, pls, please, mujhe, mera, kar, ko, se, hai, dijiye, कर, मुझे, है, plzz, bhaiya, didi, madam, "
        "sir",
        off="nahi chahiye, nahin chahiye, nai chahiye, नहीं चाहिए, nhi chahiye, nhi chaiye, nahi chaiye, नही चाहिए",
        texting="bhejna, sandesh, mesej, मैसेज, मेसेज, संदेश, सन्देश, एसएमएस, भेजना, फोन, कॉल, msgs, messages, "
        "karna, करना, मैसेजेस, call, मैसिज",
        after="mat bhejo, mat bhejna, mat bhejiye, mat bhejen, mat karo, mat kro, mat karna, mat kijiye, "
        "band karo, band kro, band kar do, band karen, band karna, band kijiye, nahi chahiye, nahin chahiye, "
        "nai chahiye, मत भेजो, मत भेजना, मत भेजिए, मत भेजें, मत करो, मत करना, मत कीजिए, मत करें, बंद करो, "
        "बंद करें, बंद कर दो, बंद कीजिए, नहीं चाहिए, नहीं चाहता, नहीं चाहती, mat kariye, mat kare, na kare, "
        "na karen, na bheje, na bhejen, na bhejo, nahi chaiye, nhi chahiye, nahi chahie, nhi chaiye, rok do, "
        "roko, rok dijiye, band kariye, मत कर, न भेजें, ना भेजें, न करें, ना करें, रोक दो, रोको, रोकें, "
        "बंद कर दीजिए, बंद करिए, नही चाहिए, bandh karo, bandh kro, bandh kar do, band kr do, band kardo, "
        "bnd karo, bnd kro, bandh karen, mt bhejo, mt karo, mt kro, mat bejo",
        said="tang mat, tang na karo, pareshan mat, pareshan na karo, galat number, galat no, galat nambar, "
        "number hata, naam hata, list se hata, list se hatao, list se nikalo, number delete, phone mat karo, "
        "phone mat karna, call mat karo, call mat karna, तंग मत, परेशान मत, परेशान न करें, गलत नंबर, "
        "गलत नम्बर, रॉन्ग नंबर, नंबर हटा, नंबर हटाओ, नाम हटा, लिस्ट से हटा, लिस्ट से हटाओ, सूची से हटा, "
        "mat bhejo, mat bhejna, mat bhejiye, msg mat, message mat, sms mat, mesej mat, galat aadmi, "
        "galat insaan, mera number nahi, meri number nahi, number nahi hai unka, peecha chhodo, picha chodo, "
        "dimag mat khao, mujhe chhod do, mujhe chod do, block kar, मत भेजो, मत भेजिए, मत भेजें, मैसेज मत, "
        "पीछा छोड़ो, मुझे छोड़ दो, गलत व्यक्ति, यह नंबर उनका नहीं, दिमाग मत खाओ, number kisne diya, "
        "नंबर किसने दिया",
        drop="hata*, delete, nikal*, remove, हटा*, निकाल*, डिलीट, मिटा*",
        record="number, nambar, list, naam, no, नंबर, लिस्ट, सूची, नाम, नम्बर",
    ),
    "ht": Doubt(
        alone="sispann, kanpe, ase, sispan, kite m, rete, lage m, bay m lapè",
        polite="tanpri, souple, silvouplè, mèsi, kounye a, non, wi, la, konsa, sa, zanmi",
        off="sispann, sispan, kanpe, pa vle, pa bezwen, ase, sispann anmède, bouke ak, twòp, pa janm vle, "
        "pa renmen, rete, ase ak, stop",
        texting="mesaj, mesaj yo, voye, ekri, tèks, rele m, rele mwen, deranje, anmède, anmède m, rele, mesaj sa yo, "
        "mesaj nou, jennen, kontakte, voye ban m",
        never="pa, pa janm",
        do="voye, ekri, rele, deranje, tèkste, kontakte, anmède, jennen",
        said="move nimewo, nimewo sa pa bon, pa bon nimewo, pa nimewo, kite m an repo, kite mwen an repo, "
        "kite m trankil, kite mwen trankil, retire m sou, retire mwen sou, retire nimewo, efase nimewo, "
        "move moun, gen move nimewo, se pa nimewo, ban m lapè, anmède m, pa enterese",
        between="piki, pran, grenn, medikaman",
        unless="pa sispann, m pa voye, mwen pa voye, m pa ekri, nou pa voye, ou pa voye, m pa resevwa, "
        "mwen pa resevwa, kite m vini, kite m konnen",
        drop="retire, wete, efase, siprime",
        record="nimewo, non m, lis, lis la, kontak",
    ),
    "id": Doubt(
        alone="berhenti, hentikan, cukup sudah, sudah cukup, setop, udah cukup, diam, pergi",
        polite="tolong, dong, mohon, ya, kak, maaf, pak, bu, min, saya mau, sekarang, terima kasih, saya, kami, "
        "mas, mbak, lah, deh, sudah, saja",
        off="tidak mau, tdk mau, ga mau, gak mau, nggak mau, tidak ingin, tidak butuh, tidak perlu, berhenti, "
        "hentikan, cukup, tidak usah, gak usah, ga usah, ngga usah, tak usah, tak mau, jangan ada, bosan, "
        "capek, terlalu banyak, setop, sudahi, batalkan langganan",
        texting="pesan, pesannya, smsnya, kirim, mengirim, kirimi, menghubungi, menelepon, mengganggu, ganggu, "
        "menggangu, sms, smsan, chat, whatsapp, dihubungi, menghubungi saya, dikirimi, nyepam, spam",
        never="jangan, jgn, jangan lagi, jangan pernah",
        do="kirim, kirimi, kirimin, kirimkan, mengirim, hubungi, menghubungi, telepon, telpon, telp, ganggu, "
        "chat, wa, sms, sms saya, mengganggu, kontak, spam, teror, menelpon, menelepon, bel, call",
        said="salah nomor, salah nomer, salah no, salah sambung, nomor salah, salah orang, hapus nomor, "
        "hapus nomer, dari daftar, biarkan saya sendiri, bukan nomor, bukan nomornya, mengganggu saya, "
        "kalian mengganggu, berhenti langganan, berhenti berlangganan, tidak tertarik, tidak kenal, "
        "dapat nomor saya dari mana, orang yang salah, anda salah orang",
        between="suntik, obat, minum, janji",
        unless="tidak berhenti, gak berhenti, belum berhenti",
        drop="hapus, hapuskan, keluarkan, keluar, cabut, coret, buang",
        record="nomor, nomer, no saya, daftar, grup, kontak, data saya, list",
    ),
    "it": Doubt(
        alone="smettetela, smettila, smettete, la smetta, basta, disiscrivermi, fermatevi, finitela, finiscila, "
        "piantatela, piantala",
        polite="per favore, per piacere, grazie, adesso, ora, ciao, subito, ho detto, vi prego, ti prego, di, con, lo",
        off="smettetela di, smettila di, smettete di, smetti di, smetta di, basta, non voglio, non vogliamo, "
        "niente più, non desidero, stufo di, stufa di, basta con, smetti, stanco di, stanca di, troppi, "
        "non desidero più, non vorrei, non mi interessa, stop ai",
        texting="messaggi, messaggio, messaggini, scrivermi, mandarmi, inviarmi, scrivere, disturbarmi, chiamarmi, "
        "contattarmi, messaggiarmi, essere contattato, essere contattata, contatti, chiamate, avvisi, "
        "questi messaggi, mandare, rompere",
        said="numero sbagliato, sbagliato numero, sbagliando numero, sbagliato persona, lasciatemi in pace, "
        "lasciami in pace, mi lasci in pace, lasciatemi stare, lasciami stare, toglietemi dalla, "
        "toglimi dalla, mi tolga dalla, cancellatemi, cancellate il mio numero, cancella il mio numero, "
        "disiscrivermi, non mandatemi, non mi mandate, non mandarmi, non mi scrivete, non mi scrivere, "
        "non scrivetemi, non scrivermi, non inviatemi, non mi inviate, non disturbatemi, non mi disturbate, "
        "non contattatemi, non mi contattate, non chiamatemi, non mi chiamate, numero errato, "
        "persona sbagliata, non sono interessat*, mi state disturbando, mi disturbate, mi dia fastidio, "
        "non è il numero di, rimuovetemi, eliminatemi, chi vi ha dato il mio numero, sbagliati numero, "
        "sbagliata persona, sbagliato il numero, non mi interess*, non è il mio numero, non è mio numero",
        between="puntura, pillole, pastiglie, appuntamento, pastiglia, sale",
        drop="togliere, togliete, togli, tolga, cancellare, cancellate, cancella, eliminare, eliminate, elimina, "
        "rimuovere, rimuovete, rimuovi",
        record="numero, mio numero, lista, elenco, miei dati, nominativo",
    ),
    "pt": Doubt(
        alone="pare, parem, parar, cancelar, chega, sair, descadastrar, já chega, me deixe, me deixem, deixem me, "
        "me esqueçam, favor parar",
        polite="obrigado, obrigada, com isso, isso, já, quero, agora, olá, senhor, senhora, por favor, favor, "
        "com essas, com essa",
        off="pare de, parem de, para de, parar de, não quero, não queremos, não desejo, não preciso, chega de, "
        "sem mais, cancelar, cancele, cansado de, cansada de, parem com, pare com, pare com essas, "
        "não aguento mais, cansei de, dispenso, excesso de, muitas, tantas, favor parar",
        texting="mensagem, mensagens, mandar, escrever, incomodar, ligar, torpedos, torpedo, ligações, encher, "
        "me mandem, escrevendo, mandando, enviando, lembretes",
        never="não, não me, nunca mais, não nos",
        do="mande, mandem, mandes, envie, enviem, envies, escreva, escrevam, ligue, liguem, incomode, "
        "incomodem, contate, contactem, chateie, chateiem, mandar, enviar, perturbe, perturbem, contacte, "
        "escrevas, ligues",
        said="número errado, é engano, foi engano, errou o número, erraram o número, me tire da, me tirem da, "
        "tirem me, tire me da, me tira da, me tira dessa, remova meu número, remova o meu número, me remova, "
        "me removam, removam me, apague o meu número, apague meu número, apaguem meu número, "
        "me deixe em paz, me deixem em paz, deixa me em paz, me deixa em paz, deixem me em paz, "
        "sair da lista, me descadastrar, pessoa errada, não é o número, não conheço, número está errado, "
        "não sou essa pessoa, estão me incomodando, me incomodando, quem deu meu número, "
        "não quero receber nada, não quero mais nada, não quero nada de vocês, não estou interessad*, "
        "não me interessa, não tenho interesse",
        between="injeção, consulta, comprimidos, remédio, filhos, tomar, dor",
        unless="não para, não recebi",
        drop="tire, tirem, tira, tirar, remova, removam, remover, remove, apague, apaguem, apagar, exclua, "
        "excluam, excluir, retire, retirem, delete, deletem",
        record="lista, meu número, meu contato, meu contacto, meu nome, meus dados, cadastro",
    ),
    "rw": Doubt(
        alone="mundeke, nimundeke, ndeka, hagarika, muhagarike, nimuhagarike, mureke, nimureke",
        polite="murakoze, nyamuneka, ndabinginze, mbabarira, mumbabarire, mwe, rwose, cyane, ok",
        off="mureke, nimureke, reka, hagarika, muhagarike, nimuhagarike, sinshaka, sinkishaka, sinkeneye, "
        "sinkikeneye, ntimukongere, ntukongere, ntimuzongere, ntuzongere, ntimwongere, ntabwo nshaka, "
        "ntabwo nkeneye, nibireke, murekere, rekera, mwarekeye, ndambiwe, ko muhagarika, nshaka ko muhagarika",
        texting="ubutumwa, ubutumwa bugufi, kunyoherereza, kunyandikira, kumpamagara, kunyohereza, mesaje, "
        "kunyandik*, kunyohere*, kumpamag*, mesaj*, kunsakuriza, kumbangamira",
        said="ntimukanyandikire, ntukanyandikire, ntimukanyoherereze, ntimunyandikire, mwibeshye nimero, "
        "wibeshye nimero, mwibeshye numero, munkure kuri, nkura kuri, munkure muri, musibe nimero, "
        "si iyi nimero, iyi nimero si, si nimero ya, si nimero yanjye, siyo nimero, mwibeshye, wibeshye, "
        "murambangamiye, muramburabuza, ntimunyohere*, ntimukanyohere*, ntukanyohere*, ntukanyandik*, "
        "ntimukampamag*, ntimunyandik*, mumvaneho, munsibe, nshaka kuvamo",
        between="urushinge, imiti",
        drop="munkure, mukure, nkura, mukureho, musibe, siba",
        record="nimero, numero, lisiti, urutonde, list",
    ),
    "so": Doubt(
        alone="jooji, joojiya, i daa, iga daa, i daaya, iga daaya, naga daa, ka bax, waan ka baxay, waan ka baxayaa",
        polite="fadlan, mahadsanid, hadda, waan ku baryayaa, walaal, walaalayaal, waan, hada, kaliya",
        off="jooji, joojiya, ma rabo, ma doonayo, uma baahni, ha i soo, fadlan jooji, iga jooji, iga joojiya, "
        "ka daa, waan ka daalay, looma baahna, ma jecli, ma u baahni",
        texting="fariin, fariimo, fariimaha, fariimahan, fariinta, fariintan, farriin, farriimo, qoraalka, qoraal, "
        "dirida, dirista, wicitaanka, fariim*, fariin*, farriim*, farriin*, qoraal*, wicitaan*, message*, "
        "soo dir*, diri*, sms*, dhibka",
        never="ha ii, ha i, ha ii soo, ha i soo, ha iigu soo",
        do="dirin, dirina, diirin, wicin, wicina, qorin, qorina, soo dirin, soo dirina, soo wicin, dhibin, "
        "dhibina, waco, soo direen",
        after="jooji, joojiya, ma rabo, ma doonayo",
        said="iga saar, iga saara, iga tir, lambar khaldan, lambarka khaldan, lambarka waa khalad, "
        "lambarkan waa khalad, waa lambar khaldan, nambar khaldan, lambar qaldan, lambarka qaldan, "
        "qof khaldan, ma aha lambarkiisa, ma aha lambarkeeda, lambarkaygii ma aha, iga tirtir, ha i dhibin, "
        "waad i dhibaysaan, waad i dhibtay, ha ii soo dir*, ha i soo wic*, ha ii soo dirin",
        between="irbad, dawo, dawada",
        drop="ka saar, saar, tirtir, masax, ka bixi",
        record="lambarkayga, lambarka, liiska, magacayga, nambarka",
    ),
    "sw": Doubt(
        alone="acha, acheni, achana, achaneni, niache, niacheni, simamisha, sitisha, komesha, koma, komeni, "
        "inatosha, kujitoa, kujiondoa, achana na mimi, wacha, wacheni, niwache, niwacheni, msinisumbue, "
        "imetosha, stop basi, ondoka",
        polite="tafadhali, tafadhalini, naomba, asante, sasa, nataka, jamani, samahani, bwana, mimi, kabisa, hapo, "
        "basi, nimesema, ok, tena",
        off="acha, acheni, sitaki, sihitaji, sipendi, hatutaki, simamisha, simamisheni, sitisha, sitisheni, "
        "komesha, nimechoka na, inatosha, wacha, wacheni, nataka kuacha, nimechoshwa, nimechoka, sitahitaji, "
        "hatuhitaji, sina haja",
        texting="ujumbe, jumbe, meseji, mesej, meseji zenu, kunitumia, kutuma, kunipigia, kuniandikia, kunisumbua, "
        "message, kusumbu*, meseg*, mesej*, mesij*, jumbe zenu, kunitext, kunisumbu*, kutext, kupokea, "
        "kupata ujumbe, kuniandik*, kunitum*, kunipig*",
        said="usinitumie, msinitumie, usitume, msitume, usinipigie, msinipigie, usiniandikie, msiniandikie, "
        "usitutumie, msitutumie, niondoe kwenye, niondoeni, mniondoe, nitoe kwenye, nitoeni, mnitoe, "
        "umekosea namba, umekosea nambari, mmekosea namba, mmekosea nambari, umekosea number, "
        "namba sio yangu, namba si yangu, mnanisumbua, unanisumbua, usinisumbue, msinisumbue, "
        "naomba kujitoa, kujiondoa, futa namba, futeni namba, usini*, msini*, usitutum*, msitutum*, "
        "si namba ya, sio namba ya, si nambari ya, sio nambari ya, si namba yangu, namba siyo, siyo namba, "
        "mtu tofauti, simjui, mnasumbua, unasumbua, niacheni, umekosea, mmekosea, wrong nambari, nijitoe, "
        "kujitoa, mnikome, mnipotezee, uliyemtafuta si*, unayemtafuta si*, mnayemtafuta si*, sio mimi namba, "
        "sihusiki, sitaki kusikia kutoka, sitaki kusikia",
        between="sindano, dawa, nije, kukosa, watoto",
        unless="msiache, usiache, usinisahau, msinisahau, usiniache, msiniache, usinitupe, umekosea tarehe, "
        "umekosea jina, umekosea siku, basi la",
        drop="ondoa, ondoeni, niondoe, toa, toeni, futa, futeni, nifute, nitoe, mnifute",
        record="namba, nambari, orodha, list, listi, namba yangu, jina langu, mfumo, kundi, grupu",
        close="tafadhali acha, tafadhali acheni, naomba mniache",
    ),
    "tl": Doubt(
        alone="itigil, tigilan, tigil, pakitigil, paki tigil, paki stop, pakistop, tama na, ayoko na, ayaw ko na, "
        "tigil na, tumigil ka, tumigil kayo, ayaw ko",
        polite="po, na, nyo, ninyo, mo, ako, ko, naman, ho, nga, yan, ito, salamat, kayo, ka, dito, pls, na po, "
        "talaga, lang",
        off="wag, wag na, huwag na, huwag nang, wag nang, huwag, tigilan, tigil, itigil, pakitigil, ayoko, "
        "ayoko na, ayaw ko, ayaw na, tama na, sawa na, tigil na, tigilan na, tigilan nyo na, stop na, "
        "hindi ko na kailangan, di ko na kailangan, hindi ko kailangan, hindi ko na gusto, di ko gusto, "
        "hindi ko gusto, ayaw ko na, ayoko nang, wag na kayo, wag kayo, huwag kayo, huwag na kayo, "
        "huwag nyo na, itigil na, puro, ang daming, sawa na ako",
        texting="magtext, mag text, itext, i text, pagtext, pagtetext, tetext, mensahe, magpadala, padalhan, padala, "
        "tumawag, tawagan, magsend, guluhin, kontakin, text*, magtext*, mag message, mag send, nagtext*, "
        "mag*text, pagpapadala, pag text, tumext, makatanggap, mga message, mga text, pagmemessage, istorbo, "
        "istorbohin, kulitin",
        said="maling number, maling numero, mali ang number, mali po ang number, mali number, tanggalin nyo ako, "
        "tanggalin mo ako, tanggalin ang number, tanggal ang number, alisin nyo ako, alisin mo ako, "
        "alisin ang number, burahin nyo, burahin mo, burahin ang number, tigilan nyo, tigilan mo, "
        "wrong send, maling tao, hindi ito number ni, di ito number ni, hindi ito ang number, "
        "hindi po ito number ni, nakakaistorbo, istorbo kayo, wag nyo akong, huwag nyo akong, "
        "wag nyo na akong, huwag nyo na akong, lubayan nyo, lubayan mo, layuan nyo, hindi ako interesado, "
        "di ako interesado, block kita",
        between="injection, gamot, alala",
        unless="wag itigil, huwag itigil, wag nyo itigil, wag kalimutan",
        drop="tanggal*, alisin, burahin, ialis, i delete, delete, paki delete, paki alis, paki tanggal, pakitanggal",
        record="number, numero, listahan, list, pangalan ko",
    ),
}
"""Language code to the ways in which it asks to be left alone without a plain stop word, see `is_doubtful`."""

_CLAUSE_END = re.compile(r"[.!?,;:。｡、।۔،؟؛]+")
_APART = re.compile(r"\b[^\W\d_](?:[ .*-]{1,3}\w\b){3,}")  # S.T.O.P. texting me
_ELISION = re.compile(r"\b([cdjlmnst]|qu)'")  # n'envoyez is two words, don't is one
_AROUND, _DASHES = " \t\"'“”„«»‘’()[]*_~", "-–—|"
_UNMISTAKABLE = frozenset(
    {"stop", "stopp", "stopall", "unsubscribe", "optout", "desuscribir", "desabonner", "desinscrire", "descadastrar", "disiscrivi",
     "abmelden", "abbestellen", "отписаться", "відписатися", "стоп"}
)  # fmt: skip
"""Stop words that mean nothing else where they begin a text."""
_ADVISING = frozenset(
    letters(word)
    for words in (
        ("please", "reply", "replying", "respond", "send", "text", "txt", "type", "write", "the", "word"),
        (
            "por",
            "favor",
            "responda",
            "responder",
            "responde",
            "respondo",
            "envie",
            "enviar",
            "envia",
            "mande",
            "la",
            "palabra",
        ),
        ("répondez", "réponds", "répondre", "envoyez", "envoyer", "envoie", "tapez", "le", "mot"),
        (
            "digite",
            "palavra",
            "jibu",
            "tuma",
            "andika",
            "neno",
            "balas",
            "kirim",
            "ketik",
            "antworten",
            "antworte",
            "sende",
        ),
    )
    for word in words
)
"""The words by which people are taught to text one."""
_DOUBLED = re.compile(r"(.)\1+")
# One sound written in two ways: the final letters of Arabic, the dot of Hindi, the hooks of Hausa.
_VARIANTS = str.maketrans({"ى": "ي", "ة": "ه", "\u093c": None, "ɓ": "b", "ɗ": "d", "ƙ": "k"})

Spans = list[tuple[int, int]]
"""Where phrases stand in a clause: the place of the first word, and the place behind the last."""


def is_doubtful(text: str) -> bool:
    """Whether a text that is no plain stop word may still ask to be left alone, so that its writer is asked back.

    False for whatever `read` decides.  A clause asks for it that holds a phrase of `Doubt.said`, or nothing but a stop
    word and politeness, or a word for leaving off near a word for texting.  A false alarm costs one question and a
    miss an unwanted text, so typing errors, doubled letters and mixed languages are read generously.

    Of phrasings that nobody had thought of, about four in five were recognised (`tests/storage/rules/test_doubts.py`):
    an ordinary reply that a person reads is still the second net.
    """
    if read(text) is not None:
        return False
    if _begins_with_stop(text) or _repeats_advice(text):
        return True
    return any(_asks_to_be_left(words) for line in LINE_END.split(text) for words in _clauses(line))


def _begins_with_stop(text: str) -> bool:
    """Whether a text begins with a stop word of its own: `STOP I moved away`, `stop - John here, I gave birth already`.

    One that means nothing else is enough, unless what follows takes another meaning from it (`stop by later`) or it is a
    question.  An everyday word (`end`, `alto`, `acha`) must be set apart: in capitals, or by a dash.
    """
    line = next((line for line in LINE_END.split(text.strip()) if line.strip()), "").strip(_AROUND)
    first, _, rest = line.partition(" ")
    if not rest.strip() or (word := _stop_word(first)) is None:
        return False
    if word not in _UNMISTAKABLE and not _is_set_apart(first, rest):
        return False
    if line.rstrip(_AROUND).endswith(("?", "؟", "？")) or rest.strip(_AROUND + ".!").isdigit():
        return False
    words = next(_clauses(line), [])
    found = _found(words)
    return not found["unless"] and not any(start == 1 for start, _ in [*found["between"], *found["elsewhere"]])


def _repeats_advice(text: str) -> bool:
    """Whether a text is what we teach, taken by the word: `Reply STOP`, `envie BAJA`."""
    words = text.split()[:6]
    advised = next((n for n, word in enumerate(words) if letters(key(word)) not in _ADVISING), len(words))
    return 0 < advised < len(words) <= advised + 2 and bool(stop_readings(" ".join(words[advised:])))


def _stop_word(typed: str) -> str | None:
    """The stop word that a first word is, without the signs behind it; None if it is none."""
    return next((word for word in stop_readings(typed)), None)


def _is_set_apart(first: str, rest: str) -> bool:
    """Whether the first word of a line stands for itself: in capitals where the rest is not, or with a dash behind it."""
    in_capitals = first.isupper() and len(first) > 2 and any(map(str.islower, rest))
    return in_capitals or rest.lstrip()[:1] in _DASHES


def _asks_to_be_left(words: list[str]) -> bool:
    """Whether one clause may ask for it; each word is looked at a fixed number of times."""
    found = _found(words)
    if found["unless"]:
        return False
    return bool(
        found["said"]
        or (found["alone"] and _covered([*found["alone"], *found["polite"]]) == len(words))
        or any(start == 0 and end + 3 >= len(words) and not found["between"] for start, end in found["order"])
        or _last(words, found["close"], found["polite"])
        or _near(found["off"], found["texting"], 4, {start for start, _ in found["between"]})
        or _near(found["never"], found["do"], 1)
        or _near(found["texting"], _last(words, found["after"], found["polite"]), 4)
        or _near(found["drop"], found["record"], 4)
        or _near(found["record"], found["drop"], 4)
    )


def _clauses(line: str) -> Iterator[list[str]]:
    """The words of each clause of a line, in the form in which the phrases of `Doubt` are compared."""
    line = _APART.sub(lambda apart: "".join(filter(str.isalnum, apart[0])), key(line))
    for clause in _CLAUSE_END.split(_ELISION.sub(r"\1 ", line)):
        if words := _compared(clause):
            yield words


def _compared(clause: str) -> list[str]:
    """Words without accents and look-alikes, and with doubled letters written once: `mesages`, `stoppp`."""
    spaced = "".join(char if char == "'" or is_written(char) else " " for char in clause)
    words = (letters(word).translate(LOOKALIKES).translate(_VARIANTS) for word in spaced.split())
    return [_DOUBLED.sub(r"\1", word) for word in words if word]


def _found(words: list[str]) -> dict[str, Spans]:
    """Where the phrases of each part of `Doubt` stand among the words."""
    found: dict[str, Spans] = {part: [] for part in Doubt._fields}
    for place, word in enumerate(words):
        for first in (word, *(f"{word[:size]}*" for size in _STEMS[: max(0, len(word) - 2)])):
            for part, phrase in _PHRASES.get(first, ()):
                here = words[place : place + len(phrase)]
                if len(here) == len(phrase) and all(map(_is_word, here[1:], phrase[1:])):
                    found[part].append((place, place + len(phrase)))
    return found


def _is_word(word: str, wanted: str) -> bool:
    """Whether a word is the one wanted, or begins as it does if that ends in `*`."""
    return word.startswith(wanted[:-1]) if wanted.endswith("*") else word == wanted


def _near(before: Spans, behind: Spans, apart: int, but: Collection[int] = ()) -> bool:
    """Whether one span follows another with at most `apart` words between them, none of which stands at `but`."""
    starts = {start for start, _ in behind}
    return any(
        end + gap in starts and not any(place in but for place in range(end, end + gap))
        for _, end in before
        for gap in range(apart + 1)
    )


def _last(words: list[str], asking: Spans, polite: Spans) -> Spans:
    """Those spans behind which nothing but politeness stands."""
    places = {place for span in polite for place in range(*span)}
    rest = len(words)
    while rest - 1 in places:
        rest -= 1
    return [span for span in asking if span[1] >= rest]


def _covered(spans: Spans) -> int:
    """How many words of the clause stand in one of the spans."""
    return len({place for span in spans for place in range(*span)})


def _phrases() -> Mapping[str, Collection[tuple[str, tuple[str, ...]]]]:
    """The phrases of all languages, each with its part of `Doubt`, by their first word."""
    found: dict[str, set[tuple[str, tuple[str, ...]]]] = {}
    for doubt in DOUBTS.values():
        for part, phrases in zip(Doubt._fields, doubt, strict=True):
            for phrase in filter(None, phrases.split(", ")):
                words = tuple(_phrase(phrase))
                found.setdefault(words[0], set()).add((part, words))
    return found


def _phrase(phrase: str) -> Iterator[str]:
    """The words of a phrase as they are compared, the star kept that marks the beginning of a word."""
    for written in phrase.split():
        for word in _compared(key(written)):
            yield word + "*" * written.endswith("*")


_PHRASES = _phrases()
_STEMS = range(3, 1 + max(len(word) - 1 for word in _PHRASES if word.endswith("*")))
