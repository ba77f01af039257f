"""What of a text its writer did not write: a phone's signature, the lines that an answer quotes, a reaction to a message.

Phones put `Sent from my iPhone` behind a text, mail programs repeat what is answered behind `>`, and a tap on a message
arrives as `Liked “...”`.  None of it is said by the person, so it asks for nothing and commands nothing.  Here stands
only what the text itself shows; whether it repeats a text of ours, the bot knows (`bot/inbound/echoes.py`).
"""

from __future__ import annotations

import re


def without_signature(text: str) -> str:
    """The text without what a phone or a mail program put behind it; a text that is nothing else stays as it is."""
    near_the_end = text[-_TAIL:].lower()
    if not any(hint in near_the_end for hint in _HINTS):
        return text
    cut = text
    for _ in range(2):  # a line of the phone's, and one of the mail program's
        head, tail = cut[:-_TAIL], cut[-_TAIL:].rstrip()
        for signature in (_DELIMITED, _SIGNATURE, _ON_ITS_LINE):
            if (found := signature.search(tail)) is not None:
                tail = tail[: found.start()].rstrip(_APART)
        cut = head + tail
    return cut if any(map(str.isalnum, cut)) and len(cut) < len(text.rstrip()) else text


def is_reaction(text: str) -> bool:
    """Whether a text is a tap on another: `Liked “...”`, in the wordings of both kinds of phones and many languages."""
    text = text[:2000]
    if not any(sign in text for sign in '"“”„«»‟'):
        return False
    return _REACTION.fullmatch(text) is not None or _NAMED_FIRST.fullmatch(text) is not None


def without_quotation(text: str) -> str:
    """The text without the lines that it quotes (`> ...`) and what a mail program says of them; may be empty."""
    if ">" not in text and "\n" not in text and "\r" not in text:
        return text
    kept: list[str] = []
    for line in text.splitlines():
        if _ORIGINAL.match(line):
            break
        if not line.lstrip().startswith(">") and not _WROTE.match(line):
            kept.append(line)
    return "\n".join(kept).strip() if len(kept) < len(text.splitlines()) else text


def without_forwarding(text: str) -> str:
    """The text without `Fwd:` and `RE:` in front of it."""
    return _FORWARDED.sub("", text, count=1)


def own_words(text: str) -> str:
    """What the writer of a text says, as far as the text shows it: no signature, no quotation, nothing of a reaction."""
    text = without_signature(text)
    return "" if is_reaction(text) else without_quotation(text)


_TAIL = 160
"""Characters at the end of a text among which a signature is looked for: every letter costs."""


_BRAND = (
    r"(?:i ?phone|i ?pad|i ?pod|apple watch|mac ?book|galaxy|samsung|android|huawei|honor|xiaomi|redmi|oppo|vivo|realme|tecno|"
    r"infinix|itel|nokia|pixel|motorola|moto|htc|lg|sony|xperia|one ?plus|blackberry|windows phone|outlook|yahoo|gmail|hotmail|aol|"
    r"proton ?mail|(?:mail|correo|courrier) (?:for|para|pour) windows|t-mobile|verizon|at&t|yandex|mail\.ru|айфон|آيفون)"
)


_DEVICE = (
    rf"(?:{_BRAND}|smart ?phone|cell ?phone|mobile|phone|tablet|device|tel[eé]fono|celular|m[oó]vil|t[eé]l[eé]phone|portable|"
    r"telem[oó]vel|telefone|handy|telefon|cellulare|simu|ponsel|hp|телефон[а-я]*|смартфон[а-я]*|هاتفي|جوالي)"
)


_MODEL = (
    r"(?:\w*\d\w*|smart ?phone|phone|mobile|device|mail|app|lte|pro|max|plus|mini|note|ultra|lite|edge|for|on|for the|via|from|para|pour|"
    r"per|untuk|für|voor|para o|de|the|ios|secure|e-?mail|yangu|saya|ko|của tôi|cua toi|(?:https?://|aka\.ms|www\.)\S*|<\S*>|"
    rf"{_BRAND})"
)


# Each is how phones of one language begin or end the line; the device stands where {device} does.
_SIGNED = (
    # en
    r"sent (?:from|via|using|with|by) (?:my (?:\S+ ){0,2}?{device}|(?:the |a )?(?:\S+ )?{brand})", r"get (?:outlook|yahoo mail) for",
    r"get the (?:new |free )?\w+ (?:mail )?app[^\n]*",
    r"yahoo mail: search, organize, conquer", r"via {device}",
    # es, pt
    r"enviado (?:desde|con|por|mediante|via) (?:mi |el |la |un )?(?:\S+ ){0,2}?{device}", r"obt(?:en|én|ener|enga) outlook para",
    r"mandado desde mi {device}", r"enviad[oa] (?:do|da|pelo|pela|via|a partir do|a partir de|com o|com) (?:meu |minha |o )?(?:\S+ ){0,2}?{device}",
    r"obter (?:o )?outlook para",
    # fr
    r"envoy(?:e|é|ée|er) (?:de|depuis|à partir de|a partir de|avec|par) (?:mon |ma |l'|un )?(?:\S+ ){0,2}?{device}",
    r"(?:t[eé]l[eé]charge[zr]?|obtenez|obtenir) outlook pour",
    # de, nl, it
    r"(?:diese nachricht wurde )?von mein(?:em|er) (?:\S+ ){0,2}?{device} (?:\S+ ){0,2}?gesendet",
    r"gesendet (?:von|mit|über|ueber) (?:mein(?:em|er) |der |dem )?(?:\S+ ){0,2}?{device}", r"outlook für (?:ios|android) beziehen",
    r"(?:verzonden|verstuurd) (?:vanaf|met|via) (?:mijn |de )?(?:\S+ ){0,2}?{device}", r"outlook voor (?:ios|android) downloaden",
    r"inviato (?:da|dal|con|tramite) (?:mio |il mio |l')?(?:\S+ ){0,2}?{device}", r"(?:ottieni|scarica) outlook per",
    # sw, ha, so, rw, ht
    r"imetumwa (?:kutoka|kwa|na) (?:\S+ ){0,2}?{device}", r"an aiko daga (?:\S+ ){0,2}?{device}", r"voye (?:depi|sot) (?:nan )?(?:\S+ ){0,2}?{device}",
    # id, tl, vi, tr
    r"(?:dikirim|terkirim) (?:dari|melalui|dengan) (?:\S+ ){0,2}?{device}", r"dapatkan outlook untuk",
    r"(?:ipinadala|pinadala|naipadala) (?:mula sa|gamit ang) (?:aking )?(?:\S+ ){0,2}?{device}", r"(?:đã |da )?(?:được )?gửi từ (?:\S+ ){0,2}?{device}",
    r"{device}['`]?(?:u?m)?(?:dan|den) g[oö]nderildi",
    # ru, uk, pl
    r"отправлено (?:с|со|из|от|через) (?:моего |моей )?(?:\S+ ){0,2}?{device}", r"(?:надіслано|відправлено) (?:з|із|зі|через) (?:мого )?(?:\S+ ){0,2}?{device}",
    r"wysłan[eo] z (?:mojego )?(?:\S+ ){0,2}?{device}",
    # ar, ur, hi, bn, am
    r"(?:تم الإرسال|تم الارسال|أرسلت|ارسلت|أُرسلت|مرسل|مرسلة) (?:من|عبر) (?:\S+ ){0,2}?{device}", r"(?:میرے )?{device} سے بھیجا گیا",
    r"(?:मेरे )?{device} से भेजा गया", r"(?:আমার )?{device} থেকে পাঠানো", r"ከ(?:\S+ ){0,2}?{device} የተላከ",
    # zh, ja, ko
    r"发自我的\s*\S+", r"從我的\s*\S+\s*傳送", r"我的\s*\S+\s*から送信", r"\S*\s*{device}\s*から送信", r"나의 {device}에서 보냄",
)  # fmt: skip


_SIGNATURE = re.compile(
    # Behind it only a model, a link, a full stop.
    r"(?:^|(?<=[\s(.!?,;:*_|~>-]))(?:"
    + "|".join(_SIGNED).replace("{device}", _DEVICE).replace("{brand}", _BRAND)
    + r")"
    rf"(?:[\s,()/+'-]{{0,3}}{_MODEL}(?!\w)){{0,8}}[\s.!*_)\]-]{{0,9}}$",
    re.IGNORECASE,
)


_HINTS = (
    "sent", "get ", "via ", "yahoo mail", "enviad", "mandado", "obt", "envoy", "charge", "gesendet", "beziehen", "verzonden",
    "verstuurd", "download", "inviato", "ottieni", "scarica", "imetumwa", "aiko", "voye", "kirim", "dapatkan", "padala", "gửi từ",
    "nderildi", "отправлен", "надіслан", "відправлен", "wysłan", "أرسل", "ارسل", "إرسال", "مرسل", "أُرسل", "بھیجا", "भेजा", "পাঠানো",
    "የተላክ", "发自", "從我", "送信", "보냄", "\n--",
)  # fmt: skip
"""One of these stands in every signature: most texts have none, and the patterns cost more than all else that is read."""


# A name or a motto of one's own, on a line after `-- ` as mail programs have it, or after a line that says where it is from.
_DELIMITED = re.compile(r"\n--[ \t]*\r?\n[^\n]*(?:\n[^\n]*){0,4}$")


_ON_ITS_LINE = re.compile(
    r"(?<=[\n\r])[ \t*_|~-]{0,9}(?:sent|enviado|enviada|envoyé|envoye|gesendet|inviato|verzonden|imetumwa|dikirim) "
    r"(?:from|via|desde|do|da|de|depuis|von|dal|vanaf|kutoka|dari)\b[^\n\r]{0,60}$",
    re.IGNORECASE,
)


_APART = " \t\r\n-–—|_*~(["
"""What stands between a text and the signature behind it."""


_OPENS, _CLOSES = "[\"“„«‟”'‘]", "[\"”“»‟'’]"


_EMOJI = r"[^\w\s\"“”«»„'‘’]{1,12}"


_REACTED = (
    # en: iPhones, then Androids
    "liked", "loved", "disliked", "laughed at", "emphasi[sz]ed", "questioned", f"reacted (?:with )?{_EMOJI} to", "reacted to",
    r"removed (?:a|an) [\w ]{2,20} from", f"removed {_EMOJI} from", f"{_EMOJI} to",
    # es
    "(?:no )?le (?:gust[oó]|encant[oó])", "(?:no )?le ha gustado", "le ha encantado", "(?:se|le dio) (?:ri[oó]|risa) (?:de|con)?", "le dio risa",
    "le hizo gracia", "enfatiz[oó]", "destac[oó]", "resalt[oó]", "cuestion[oó]", "pregunt[oó] por", f"(?:ha )?reaccion(?:[oó]|ado) (?:con )?{_EMOJI} a",
    f"{_EMOJI} a", r"(?:elimin[oó]|quit[oó]) (?:un|el) [\w ]{2,20} de",
    # pt
    "curtiu", "gostou(?: de)?", "amou", "adorou", "(?:não|nao) (?:curtiu|gostou)(?: de)?", "riu(?: de)?", "enfatizou", "destacou", "questionou",
    f"reagiu (?:com )?{_EMOJI} a", "descurtiu",
    # fr
    "a (?:bien )?aim[eé]", "a ador[eé]", "n'a pas aim[eé]", "a ri(?: de| à)?", "a (?:mis en )?(?:évidence|soulign[eé]|accentu[eé])", "a mis en évidence",
    "a remis en question", f"a r[eé]agi (?:par |avec )?{_EMOJI} (?:à|a|au message)", f"{_EMOJI} à", "s'est interrog[eé]e? sur",
    # de, nl, it
    "gef[aä]llt(?: nicht)?", "hat(?: sich)? (?:gefallen|geliebt)", f"hat (?:mit )?{_EMOJI} (?:auf|reagiert auf)", "liebt", "lacht über", "hebt hervor", "vindt",
    "(?:ha messo )?mi piace(?: a)?", "ha adorato", "ha riso(?: a| di)?", "ha enfatizzato", f"ha reagito (?:con )?{_EMOJI} a",
    # sw, id, tl
    "amependa", "ameipenda", f"amejibu (?:kwa )?{_EMOJI} kwa", "menyukai", "menyayangi", "tidak menyukai", f"(?:memberi )?reaksi {_EMOJI} (?:pada|ke|untuk)",
    "ni-?like (?:ang)?", f"nag-?react ng {_EMOJI} sa",
    # ru, uk, ar, hi
    "понравилось", "нравится", "не понравилось", "понравилось сообщение", f"(?:отреагировал[а]? )?{_EMOJI} на", "сподобалось",
    "أعجبه", "أعجبها", "أعجبني", "أعجب بـ?", "أحب", "أحبّ", "لم يعجبه", "ضحك على", "शक पर", "पसंद किया", "पसंद आया",
)  # fmt: skip


_REACTION = re.compile(
    rf"\s*(?:{'|'.join(_REACTED)})\s*:?\s*{_OPENS}(?:.*{_CLOSES}|[^\"”»‟]*)[\s.…]*",
    re.IGNORECASE | re.DOTALL,
)


_NAMED_FIRST = re.compile(
    rf"\s*{_OPENS}.*{_CLOSES}\s*(?:को पसंद किया|पसंद किया|leuk|gefällt(?: mir| nicht)?|beğenildi|beğendi)\s*\.?\s*",
    re.IGNORECASE | re.DOTALL,
)


_WROTE = re.compile(
    r"^\s*(?:>\s*)?(?:on|el|le|em|am|il|op|tarehe|pada|noong)\b[^\n]{3,120}"
    r"\b(?:wrote|escribi[oó]|a [eé]crit|escreveu|schrieb|ha scritto|schreef|aliandika|menulis)\s*:\s*$",
    re.IGNORECASE,
)


_ORIGINAL = re.compile(
    r"^\s*[-_]{2,}\s*(?:original message|forwarded message|mensaje original|mensagem original|message d'origine|"
    r"message original|message transf[eé]r[eé]|ursprüngliche nachricht|messaggio originale)\s*[-_]*\s*$",
    re.IGNORECASE,
)


_FORWARDED = re.compile(
    r"^(?:\s*(?:fwd?|fw|forwarded(?: message)?|re|rv|rv|reenv(?:iado|ío|io)?|enc|encaminhad[ao]|tr|transf(?:éré|ere)?|wg|aw|i)\s*:\s*)+",
    re.IGNORECASE,
)
