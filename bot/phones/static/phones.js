// The virtual phones: draws what /phones/threads tells, and posts what is typed.
//
// Every word of a person is set as textContent, never as markup. A phone and a text are made once and then only
// brought up to date, so that nothing typed, selected or scrolled is lost when news comes.

import * as finder from "./finder.js";
import * as network from "./network.js";
import { count, named } from "./segments.js";
import { aloud, ask, element, made, post, set } from "./talk.js";

const LOOK_MS = 700;
const REMEMBERED = "phones-shown";
const THEME = "phones-theme";

const MARKS = { queued: "○", claimed: "○", sending: "○", accepted: "✓", sent: "✓", delivered: "✓✓", unknown: "?", unresolved: "?", on_its_way: "○" };
const WAITING = new Set(["queued", "claimed", "sending", "accepted", "sent"]);
const FAILED = new Set(["undelivered", "refused", "withheld", "expired", "cancelled"]);
const DOUBT = new Set(["unknown", "unresolved"]);

const desk = document.querySelector(".desk");
const picker = document.querySelector(".picker");
const trouble = document.querySelector(".trouble");
const narrow = matchMedia("(max-width: 44rem)");
const title = document.title;
const phones = new Map(); // number -> Phone, in the order of the page
let last = ""; // the last answer as it came: the same again needs no drawing
let soon = 0;
let current = null; // the phone that a narrow screen shows
let wanted = null; // a number that was just added: shown as soon as it is told

class Phone {
  constructor(told, shown) {
    this.number = told.phone;
    this.texts = new Map(); // id -> { item, told, raw }
    this.unread = 0;
    this.sending = false;
    this.follows = true; // whether the newest text is in sight, and stays so
    this.element = made("phone");
    this.chip = made("chip");
    const find = (selector) => this.element.querySelector(selector);
    this.thread = find(".thread");
    this.list = find(".texts");
    this.newest = find(".newest");
    this.form = find("form");
    this.input = find("textarea");
    this.counted = find(".count");
    this.fault = find(".fault");
    this.card = find(".card");
    this.about = find(".about");
    this.card.id = `card-${this.number}`;
    this.about.setAttribute("aria-controls", this.card.id);
    this.counted.id = `count-${this.number}`;
    this.input.setAttribute("aria-describedby", this.counted.id);

    this.chip.addEventListener("click", () => (narrow.matches || this.element.hidden ? this.show(true, true) : this.show(false)));
    find(".hide").addEventListener("click", () => this.leave());
    this.about.addEventListener("click", () => this.turnCard());
    this.newest.addEventListener("click", () => { this.toNewest(); this.input.focus(); });
    this.thread.addEventListener("animationend", (event) => event.target.classList.remove("fresh"));
    this.thread.addEventListener("scroll", () => {
      if (!this.isSeen() || this.height !== this.thread.clientHeight) return; // the frame moved, not the reader
      this.follows = this.isAtNewest();
      if (this.follows) this.read();
    });
    new ResizeObserver(() => {
      this.height = this.thread.clientHeight;
      if (this.follows) this.toNewest();
    }).observe(this.thread);
    this.element.addEventListener("focusin", () => makeCurrent(this));
    this.input.addEventListener("input", () => this.grow());
    this.input.addEventListener("keydown", (event) => this.key(event));
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.send(); });
    this.show(shown);
    this.measure();
  }

  /** Bring the handset up to date; `news` is false at the first drawing, when everything counts as read. */
  draw(told, news) {
    const find = (selector) => this.element.querySelector(selector);
    const inChip = (selector) => this.chip.querySelector(selector);
    const person = told.kind === "person";
    this.takenOut = told.taken_out;
    set(find(".name"), "textContent", told.name);
    set(find("h2"), "title", told.name);
    set(find(".label"), "textContent", told.label);
    set(find(".label"), "title", told.label);
    set(find(".number"), "textContent", "+" + told.phone);
    set(find(".face"), "textContent", initials(told.name));
    set(inChip(".face"), "textContent", initials(told.name));
    set(inChip(".chip-name"), "textContent", told.kind === "stranger" ? `+${told.phone}` : told.name);
    set(inChip(".chip-label"), "textContent", told.kind === "stranger" ? told.name : told.label);
    set(this.chip, "title", `${told.name}, ${told.label}, +${told.phone}`);
    set(this.element.dataset, "kind", told.kind);
    set(this.chip.dataset, "kind", told.kind);
    set(this.input, "dir", told.direction);
    set(this.input, "lang", told.language);
    set(this.input, "placeholder", person ? "Text a command" : "Text a reply");
    const owner = told.kind === "stranger" ? `+${told.phone}` : told.name;
    this.name = owner;
    this.element.setAttribute("aria-label", `Phone of ${owner}`);
    this.thread.setAttribute("aria-label", `Texts of ${owner}`);
    this.input.setAttribute("aria-label", `Text from ${owner}`);
    this.card.setAttribute("aria-label", `Card of ${owner}`);
    this.about.setAttribute("aria-label", `Card of ${owner}`);
    set(this.about, "title", "Who this is (I)");
    this.form.querySelector(".send").setAttribute("aria-label", `Send from ${owner}`);
    find(".hide").setAttribute("aria-label", told.taken_out ? `Close the phone of ${owner}` : `Put away the phone of ${owner}`);
    set(find(".hide"), "title", told.taken_out ? "Close this phone" : "Put this phone away");
    this.drawThread(told, news);
    if (told.card) drawCard(this.card, told);
  }

  drawThread(told, news) {
    const stays = this.follows;
    let fresh = 0;
    let day = "";
    let place = this.list.firstElementChild;
    for (const text of told.texts) {
      const before = this.texts.get(text.id);
      const item = before?.item ?? made("text");
      if (hasArrived(text) && !(before && hasArrived(before.told))) fresh += 1;
      const raw = JSON.stringify(text);
      if (before?.raw !== raw) drawText(item, text, told);
      if (news && !before) item.classList.add("fresh");
      set(item.dataset, "day", day === dayOf(text.at) ? "" : dayInWords(text.at));
      day = dayOf(text.at);
      this.texts.set(text.id, { item, told: text, raw });
      if (item === place) place = place.nextElementSibling;
      else this.list.insertBefore(item, place);
    }
    const now = new Set(told.texts.map((text) => text.id));
    for (const [id, { item }] of this.texts) {
      if (now.has(id)) continue; // only the last texts are told: an older one goes
      item.remove();
      this.texts.delete(id);
    }
    set(this.thread.dataset, "empty", told.texts.length ? "" : told.kind === "person" ? "No texts yet. Try: menu" : "No texts yet");
    if (stays && this.isSeen()) this.toNewest();
    else if (news && fresh) this.unread += fresh;
    this.mark();
  }

  async send() {
    const body = this.input.value;
    if (this.sending || !body.trim()) return;
    this.sending = true;
    this.form.dataset.sending = "";
    try {
      await post("text", { phone: this.number, body });
      if (this.input.value === body) this.input.value = "";
      this.fault.hidden = true;
      this.grow();
      this.toNewest();
      look();
    } catch (fault) {
      this.fault.textContent = `Not sent: ${fault.message}.`;
      this.fault.hidden = false;
    } finally {
      this.sending = false;
      delete this.form.dataset.sending;
    }
  }

  key(event) {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.send();
    } else if (event.key === "Escape") {
      this.thread.focus();
    }
  }

  show(yes, byHand = false) {
    this.element.hidden = !yes;
    if (yes && (byHand || !current)) makeCurrent(this);
    if (!yes && current === this) makeCurrent([...phones.values()].find((phone) => !phone.element.hidden) ?? null);
    markChips();
    if (!yes || !this.element.isConnected) return;
    this.grow();
    this.toNewest();
    if (!byHand) return;
    this.element.scrollIntoView({ block: "nearest" });
    this.input.focus({ preventScroll: true });
  }

  /** Put this phone away; one that was added is closed for good. */
  async leave() {
    const next = neighbour(this, 1) ?? neighbour(this, -1);
    this.show(false);
    remember();
    (next?.input ?? this.chip).focus();
    if (!this.takenOut) return;
    try {
      await post("put-away", { phone: this.number });
      aloud(`The phone of ${this.name} is closed.`);
      look();
    } catch (fault) {
      this.show(true, true);
      remember();
      this.fault.textContent = `Not closed: ${fault.message}.`;
      this.fault.hidden = false;
    }
  }

  turnCard(open = this.card.hidden) {
    this.card.hidden = !open;
    this.about.setAttribute("aria-expanded", String(open));
    this.element.classList.toggle("with-card", open);
    if (!open) this.toNewest();
    if (!open) return;
    last = "";
    look();
    this.element.scrollIntoView({ block: "nearest" });
  }

  isSeen() {
    return this.thread.offsetParent !== null;
  }

  isAtNewest() {
    return this.isSeen() && this.thread.scrollHeight - this.thread.scrollTop - this.thread.clientHeight < 24;
  }

  toNewest() {
    this.follows = true;
    this.thread.scrollTop = this.thread.scrollHeight;
    if (this.isSeen()) this.read();
  }

  read() {
    this.unread = 0;
    this.mark();
  }

  mark() {
    const unread = this.chip.querySelector(".unread");
    set(unread, "hidden", this.unread === 0);
    set(unread.querySelector("b"), "textContent", String(this.unread));
    set(this.newest, "hidden", this.unread === 0);
    const all = [...phones.values()].reduce((sum, phone) => sum + phone.unread, 0);
    set(document, "title", all ? `(${all}) ${title}` : title);
  }

  /** As tall as what is typed, up to the limit in the style sheet. */
  grow() {
    this.input.style.height = "auto";
    this.input.style.height = `${this.input.scrollHeight + 2}px`;
    this.measure();
  }

  /** What the typed text costs, or how to send it. */
  measure() {
    const { units, parts, holds, forcedBy } = count(this.input.value);
    const because = forcedBy === null ? "" : ` · Unicode because of ${named(forcedBy)}`;
    set(this.counted, "textContent", units ? `${units} of ${holds} · ${parts} SMS${because}` : "Enter sends · ← → other phones");
    set(this.counted, "title", units ? this.counted.textContent : "");
    this.counted.classList.toggle("dear", parts > 1 && forcedBy !== null);
  }
}

function drawText(item, text, phone) {
  const time = item.querySelector("time");
  const state = item.querySelector(".state");
  const ours = !text.from_phone;
  item.classList.toggle("typed", text.from_phone);
  item.classList.toggle("delivered", ours && text.state === "delivered");
  item.classList.toggle("waiting", ours && !text.here && WAITING.has(text.state));
  item.classList.toggle("failed", (ours && FAILED.has(text.state)) || ["set_aside", "lost"].includes(text.state));
  item.classList.toggle("doubt", ours && DOUBT.has(text.state));
  set(item.querySelector(".body"), "textContent", text.body);
  set(time, "dateTime", text.at);
  set(time, "textContent", timeOf(text.at));
  set(time, "title", new Date(text.at).toLocaleString());
  set(state, "textContent", stateInWords(text));
  set(state, "title", text.said);
  set(item.querySelector(".body"), "lang", phone.language);
}

function stateInWords(text) {
  const mark = text.from_phone && text.state === "handled" ? "✓ " : `${MARKS[text.state] ?? "✕"} `;
  const word = text.from_phone ? text.said : text.state;
  return mark + word + (text.reason ? `: ${text.reason}` : "") + costInWords(text);
}

/** What was more than one plain SMS says so. */
function costInWords(text) {
  const parts = text.segments > 1 ? ` · ${text.segments} SMS` : "";
  return parts + (text.forced_by ? ` · Unicode: ${named(text.forced_by)}` : "");
}

function drawCard(card, told) {
  const raw = JSON.stringify([told.card, told.texts.slice(-12)]);
  if (card.dataset.raw === raw) return;
  card.dataset.raw = raw;
  card.replaceChildren(...[...told.card, lastTexts(told.texts)].map(cardSection));
}

function cardSection({ title: name, about, lines }) {
  const section = element("section");
  section.append(element("h3", "", name));
  if (about) section.append(element("p", "card-about", about));
  const list = element("dl");
  for (const { word, said, tone } of lines) {
    const told = element("dd", tone);
    told.append(element("bdi", "", said));
    list.append(element("dt", "", word), told);
  }
  section.append(list);
  return section;
}

function lastTexts(texts) {
  const lines = [["To it", false], ["From it", true]].map(([word, from]) => {
    const text = texts.findLast((one) => one.from_phone === from);
    if (!text) return { word, said: "nothing yet", tone: "" };
    const tone = !from && (FAILED.has(text.state) || DOUBT.has(text.state)) ? "bad" : "";
    const body = text.body.length > 60 ? `${text.body.slice(0, 57).trimEnd()}…` : text.body;
    return { word, said: `${timeOf(text.at)}, ${from ? text.said : text.state}: “${body}”`, tone };
  });
  return { title: "Last texts", about: "", lines };
}

function hasArrived(text) {
  return !text.from_phone && (text.here || text.state === "delivered");
}

function timeOf(at) {
  return new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

function dayOf(at) {
  return new Date(at).toDateString();
}

function dayInWords(at) {
  if (dayOf(at) === dayOf(Date.now())) return "Today";
  return new Date(at).toLocaleDateString([], { weekday: "long", day: "numeric", month: "long" });
}

function initials(name) {
  const words = name.split(/\s+/).filter((word) => /\p{L}/u.test(word));
  return words.slice(0, 2).map((word) => [...word][0]).join("").toUpperCase();
}

// -- which phones lie on the desk ------------------------------------------------------------------------------------

function makeCurrent(phone) {
  if (current === phone) return;
  current?.element.classList.remove("current");
  current = phone;
  phone?.element.classList.add("current");
  markChips();
}

/** A chip is pressed where its phone can be seen. */
function markChips() {
  for (const phone of phones.values()) {
    const seen = narrow.matches ? phone === current : !phone.element.hidden;
    phone.chip.setAttribute("aria-pressed", String(seen));
    phone.chip.tabIndex = phone === (current ?? phone) ? 0 : -1;
  }
  const some = [...phones.values()].some((phone) => !phone.element.hidden);
  document.querySelector(".put-away").hidden = some || phones.size === 0;
  if (narrow.matches) current?.chip.scrollIntoView({ block: "nearest", inline: "nearest" });
}

/** The phone so many places to the right of this one, or none. */
function neighbour(phone, step) {
  const lying = [...phones.values()].filter((one) => !one.element.hidden);
  return lying[lying.indexOf(phone) + step];
}

function goTo(phone) {
  if (!phone) return;
  makeCurrent(phone);
  phone.element.scrollIntoView({ block: "nearest" });
  phone.toNewest();
  (phone.input.offsetParent ? phone.input : phone.about).focus({ preventScroll: true });
}

/** The phones shown before anybody chose: the first lead, the first of the other staff, then cases, one row of them. */
function firstShown(told) {
  const staff = told.filter((phone) => phone.kind === "person");
  const lead = staff.slice(0, 1);
  const other = staff.filter((phone) => phone.label !== "lead").slice(0, 1);
  const rest = told.filter((phone) => phone.kind === "case" && !phone.taken_out);
  const chosen = new Set([...lead, ...other, ...rest, ...staff].map((phone) => phone.phone));
  const abreast = Number(getComputedStyle(document.documentElement).getPropertyValue("--abreast"));
  return new Set([...chosen].slice(0, Math.max(abreast, 3)));
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
    // A browser that keeps nothing shows the first row the next time.
  }
}

// -- what is told ----------------------------------------------------------------------------------------------------

function draw(told) {
  const first = phones.size === 0;
  const shown = first ? remembered(told) ?? firstShown(told) : new Set();
  document.querySelector("main > .nobody").hidden = told.length > 0;
  for (const [place, one] of told.entries()) {
    const known = phones.get(one.phone);
    const phone = known ?? new Phone(one, shown.has(one.phone) || one.taken_out);
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
    if (current === phone) phone.show(false);
    phone.element.remove();
    phone.chip.remove();
    phones.delete(number);
  }
  if (wanted && phones.has(wanted)) {
    const phone = phones.get(wanted);
    wanted = null;
    phone.show(true, true);
    remember();
    aloud(`The phone of ${phone.name} is on the desk.`);
  }
  markChips();
}

async function look() {
  clearTimeout(soon);
  if (document.hidden) return; // nobody looks: it goes on when the page is seen again
  const ticket = (soon = setTimeout(look, 10 * LOOK_MS)); // should the answer never come
  try {
    const open = [...phones.values()].filter((phone) => !phone.card.hidden).map((phone) => phone.number);
    const raw = await ask("threads", { cards: open.join(",") });
    if (soon !== ticket) return; // a later question is under way, and its answer is newer
    if (raw !== last) {
      const told = JSON.parse(raw);
      draw(told.phones);
      network.draw(told.network);
    }
    last = raw;
    trouble.hidden = true;
  } catch {
    trouble.hidden = false;
  }
  if (soon !== ticket) return;
  clearTimeout(soon);
  soon = setTimeout(look, LOOK_MS);
}

// -- what is pressed -------------------------------------------------------------------------------------------------

function add() {
  finder.open((phone) => {
    wanted = phone;
    last = "";
    look();
  });
}

const turnTheme = (() => {
  const button = document.querySelector("#theme");
  const root = document.documentElement;
  const next = { auto: "light", light: "dark", dark: "auto" };
  const say = () => {
    button.querySelector("b").textContent = root.dataset.theme ?? "auto";
    button.setAttribute("aria-label", `Theme: ${root.dataset.theme ?? "auto"}`);
  };
  say();
  return () => {
    const chosen = next[root.dataset.theme ?? "auto"];
    if (chosen === "auto") delete root.dataset.theme;
    else root.dataset.theme = chosen;
    say();
    try {
      localStorage.setItem(THEME, chosen);
    } catch {
      // It holds until the page is left.
    }
  };
})();

function showKeys() {
  document.querySelector("#keys").showModal();
}

document.querySelector("#add").addEventListener("click", add);
document.querySelector("#theme").addEventListener("click", turnTheme);
document.querySelector("#help").addEventListener("click", showKeys);
document.querySelector("#keys").addEventListener("click", (event) => {
  if (event.target === event.currentTarget || event.target.closest(".close")) event.currentTarget.close();
});

picker.addEventListener("click", remember);
picker.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
  const chips = [...phones.values()].map((phone) => phone.chip);
  const to = event.key === "Home" ? 0 : event.key === "End" ? chips.length - 1 : chips.indexOf(document.activeElement) + (step ?? 0);
  if (!step && event.key !== "Home" && event.key !== "End") return;
  event.preventDefault();
  event.stopPropagation();
  chips[Math.max(0, Math.min(chips.length - 1, to))].focus();
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector("dialog[open]")) return;
  const at = document.activeElement;
  const inside = at.closest(".phone");
  const phone = inside && [...phones.values()].find((one) => one.element === inside);
  const typing = at.matches("input, select, textarea");
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step && phone && (!typing || at.value === "")) {
    event.preventDefault();
    goTo(neighbour(phone, step));
    return;
  }
  if (typing) return;
  const key = event.key.toLowerCase();
  const lying = [...phones.values()].filter((one) => !one.element.hidden);
  const act = { a: add, n: () => network.toggle(), i: () => (phone ?? current)?.turnCard(), "?": showKeys }[key];
  if (act) {
    event.preventDefault();
    act();
  } else if (/^[1-9]$/.test(key)) {
    event.preventDefault();
    goTo(lying[Number(key) - 1]);
  }
});

document.addEventListener("visibilitychange", () => look());
narrow.addEventListener("change", () => {
  markChips();
  for (const phone of phones.values()) if (phone.isSeen()) phone.toNewest();
});
look();
