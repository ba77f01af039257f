// The virtual phones: draws what /phones/threads tells, and posts what is typed.
//
// Every word of a person is set as textContent, never as markup. A phone and a text are made once and then only
// brought up to date, so that nothing typed, selected or scrolled is lost when news comes.

const LOOK_MS = 700;
const SHOWN_AT_FIRST = 4;
const REMEMBERED = "phones-shown";

const MARKS = { queued: "○", claimed: "○", sending: "○", accepted: "✓", sent: "✓", delivered: "✓✓", unknown: "?", unresolved: "?" };
const ARRIVED = new Set(["accepted", "sent", "delivered"]);
const WAITING = new Set(["queued", "claimed", "sending"]);
const FAILED = new Set(["undelivered", "refused", "withheld", "expired", "cancelled", "unknown", "unresolved"]);

const desk = document.querySelector(".desk");
const picker = document.querySelector(".picker");
const trouble = document.querySelector(".trouble");
const phones = new Map(); // number -> Phone, in the order of the page
let last = ""; // the last answer as it came: the same again needs no drawing
let soon = 0;

function made(name) {
  return document.getElementById(name).content.firstElementChild.cloneNode(true);
}

/** Set a property only where it differs: a screen reader and a selection notice every needless change. */
function set(element, property, value) {
  if (element[property] !== value) element[property] = value;
}

class Phone {
  constructor(told, shown) {
    this.number = told.phone;
    this.texts = new Map(); // id -> { item, told, raw }
    this.unread = 0;
    this.sending = false;
    this.element = made("phone");
    this.chip = made("chip");
    const find = (selector) => this.element.querySelector(selector);
    this.thread = find(".thread");
    this.newest = find(".newest");
    this.form = find("form");
    this.input = find("textarea");
    this.fault = find(".fault");

    this.chip.addEventListener("click", () => this.show(this.element.hidden, true));
    find(".hide").addEventListener("click", () => { this.show(false); remember(); this.chip.focus(); });
    this.newest.addEventListener("click", () => { this.toNewest(); this.input.focus(); });
    this.thread.addEventListener("scroll", () => { if (this.isAtNewest()) this.read(); });
    this.input.addEventListener("input", () => this.grow());
    this.input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.send();
    });
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.send(); });
    this.show(shown);
  }

  /** Bring the handset up to date; `news` is false at the first drawing, when everything counts as read. */
  draw(told, news) {
    const find = (selector) => this.element.querySelector(selector);
    const person = told.kind === "person";
    set(find(".name"), "textContent", told.name);
    set(find("h2"), "title", told.name);
    set(find(".label"), "textContent", told.label);
    set(find(".number"), "textContent", "+" + told.phone);
    set(find(".face"), "textContent", initials(told.name));
    set(this.chip.querySelector(".chip-name"), "textContent", told.name);
    set(this.chip, "title", `${told.label}, +${told.phone}`);
    set(this.element.dataset, "kind", told.kind);
    set(this.input, "dir", told.direction);
    set(this.input, "lang", told.language);
    set(this.input, "placeholder", person ? "Text a command" : "Text a reply");
    this.element.setAttribute("aria-label", `Phone of ${told.name}`);
    this.thread.setAttribute("aria-label", `Texts of ${told.name}`);
    this.input.setAttribute("aria-label", `Text from ${told.name}`);
    this.form.querySelector(".send").setAttribute("aria-label", `Send from ${told.name}`);
    find(".hide").setAttribute("aria-label", `Put away the phone of ${told.name}`);
    this.drawThread(told, news);
  }

  drawThread(told, news) {
    const stays = this.element.hidden || this.isAtNewest();
    let fresh = 0;
    let day = "";
    let place = this.thread.firstElementChild;
    for (const text of told.texts) {
      const before = this.texts.get(text.id);
      const item = before?.item ?? made("text");
      if (hasArrived(text) && !(before && hasArrived(before.told))) fresh += 1;
      const raw = JSON.stringify(text);
      if (before?.raw !== raw) drawText(item, text, told);
      set(item.dataset, "day", day === dayOf(text.at) ? "" : dayInWords(text.at));
      day = dayOf(text.at);
      this.texts.set(text.id, { item, told: text, raw });
      if (item === place) place = place.nextElementSibling;
      else this.thread.insertBefore(item, place);
    }
    const now = new Set(told.texts.map((text) => text.id));
    for (const [id, { item }] of this.texts) {
      if (now.has(id)) continue; // only the last texts are told: an older one goes
      item.remove();
      this.texts.delete(id);
    }
    set(this.thread.dataset, "empty", told.texts.length ? "" : told.kind === "person" ? "No texts yet. Try: menu" : "No texts yet");
    if (stays && !this.element.hidden) this.toNewest();
    else if (news && fresh) this.unread += fresh;
    this.mark();
  }

  async send() {
    const body = this.input.value;
    if (this.sending || !body.trim()) return;
    this.sending = true;
    this.form.dataset.sending = "";
    try {
      const answer = await fetch(document.body.dataset.text, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ phone: this.number, body }),
      });
      if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).problem ?? "it could not be kept now");
      if (this.input.value === body) this.input.value = "";
      this.fault.hidden = true;
      this.grow();
      this.toNewest();
      look();
    } catch (fault) {
      const why = fault instanceof TypeError ? "Jumbe does not answer" : fault.message;
      this.fault.textContent = `Not sent: ${why}.`;
      this.fault.hidden = false;
    } finally {
      this.sending = false;
      delete this.form.dataset.sending;
    }
  }

  show(yes, byHand = false) {
    this.element.hidden = !yes;
    this.chip.setAttribute("aria-pressed", String(yes));
    if (!yes || !this.element.isConnected) return;
    this.grow();
    this.toNewest();
    if (!byHand) return;
    this.element.scrollIntoView({ block: "nearest", inline: "start" });
    this.input.focus({ preventScroll: true });
  }

  isAtNewest() {
    return this.thread.scrollHeight - this.thread.scrollTop - this.thread.clientHeight < 24;
  }

  toNewest() {
    this.thread.scrollTop = this.thread.scrollHeight;
    this.read();
  }

  read() {
    this.unread = 0;
    this.mark();
  }

  mark() {
    const unread = this.chip.querySelector(".unread");
    set(unread, "hidden", this.unread === 0);
    set(unread, "textContent", this.unread ? String(this.unread) : "");
    unread.setAttribute("aria-label", `${this.unread} unread`);
    set(this.newest, "hidden", this.unread === 0);
  }

  /** As tall as what is typed, up to the limit in the style sheet. */
  grow() {
    this.input.style.height = "auto";
    this.input.style.height = `${this.input.scrollHeight + 2}px`;
  }
}

function drawText(item, text, phone) {
  const time = item.querySelector("time");
  const state = item.querySelector(".state");
  item.classList.toggle("typed", text.from_phone);
  item.classList.toggle("delivered", !text.from_phone && text.state === "delivered");
  item.classList.toggle("waiting", !text.from_phone && WAITING.has(text.state));
  item.classList.toggle("failed", (!text.from_phone && FAILED.has(text.state)) || text.state === "set_aside");
  set(item.querySelector(".body"), "textContent", text.body);
  set(time, "dateTime", text.at);
  set(time, "textContent", new Date(text.at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  set(time, "title", new Date(text.at).toLocaleString());
  set(state, "textContent", stateInWords(text));
  set(state, "title", text.said);
  set(item, "lang", phone.language);
}

function stateInWords(text) {
  const mark = text.from_phone ? (text.state === "handled" ? "✓ " : "") : `${MARKS[text.state] ?? "✕"} `;
  const word = text.from_phone ? text.said : text.state;
  const parts = text.segments > 1 && !text.from_phone ? ` · ${text.segments} SMS` : "";
  return mark + word + (text.reason ? `: ${text.reason}` : "") + parts;
}

function hasArrived(text) {
  return !text.from_phone && ARRIVED.has(text.state);
}

function dayOf(at) {
  return new Date(at).toDateString();
}

function dayInWords(at) {
  if (dayOf(at) === dayOf(Date.now())) return "Today";
  return new Date(at).toLocaleDateString([], { weekday: "long", day: "numeric", month: "long" });
}

function initials(name) {
  return name.split(/\s+/).filter((word) => /\p{L}/u.test(word)).slice(0, 2).map((word) => [...word][0]).join("").toUpperCase();
}

/** The phones shown before anybody chose: the first lead, the first of the other staff, and cases up to four. */
function firstShown(told) {
  const staff = told.filter((phone) => phone.kind === "person");
  const lead = staff.slice(0, 1);
  const other = staff.filter((phone) => phone.label !== "lead").slice(0, 1);
  const rest = told.filter((phone) => phone.kind === "case");
  const chosen = new Set([...lead, ...other, ...rest, ...staff].map((phone) => phone.phone));
  return new Set([...chosen].slice(0, SHOWN_AT_FIRST));
}

function remembered(told) {
  try {
    const numbers = JSON.parse(localStorage.getItem(REMEMBERED) ?? "[]");
    const still = told.map((phone) => phone.phone).filter((number) => numbers.includes(number));
    return still.length ? new Set(still) : null;
  } catch {
    return null;
  }
}

function remember() {
  const shown = [...phones.values()].filter((phone) => !phone.element.hidden).map((phone) => phone.number);
  try {
    localStorage.setItem(REMEMBERED, JSON.stringify(shown));
  } catch {
    // A browser that keeps nothing shows the first four the next time.
  }
}

function draw(told) {
  const first = phones.size === 0;
  const shown = first ? remembered(told) ?? firstShown(told) : new Set();
  document.querySelector("main > .nobody").hidden = told.length > 0;
  for (const [place, one] of told.entries()) {
    const known = phones.get(one.phone);
    const phone = known ?? new Phone(one, shown.has(one.phone));
    phones.set(one.phone, phone);
    if (!known) {
      desk.append(phone.element);
      picker.append(phone.chip);
    }
    phone.element.style.order = phone.chip.style.order = String(place);
    phone.draw(one, !first);
  }
  const now = new Set(told.map((one) => one.phone));
  for (const [number, phone] of phones) {
    if (now.has(number)) continue;
    phone.element.remove();
    phone.chip.remove();
    phones.delete(number);
  }
}

async function look() {
  clearTimeout(soon);
  const ticket = (soon = setTimeout(look, 10 * LOOK_MS)); // should the answer never come
  try {
    const answer = await fetch(document.body.dataset.threads, { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    const raw = await answer.text();
    if (soon !== ticket) return; // a later question is under way, and its answer is newer
    if (raw !== last) draw(JSON.parse(raw).phones);
    last = raw;
    trouble.hidden = true;
  } catch {
    trouble.hidden = false;
  }
  if (soon !== ticket) return;
  clearTimeout(soon);
  soon = setTimeout(look, LOOK_MS);
}

picker.addEventListener("click", remember);
look();
