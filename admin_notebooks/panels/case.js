// A case in parts that more than one panel shows: its address, its properties, whose its number is, consent, texts.

const SERVED = /\/voila\/render\/[^/]+$/.test(location.pathname);
const LABELS = {
  name: "Name", external_id: "External id", contact_phone_number: "Phone", contact_phone_number_is_verified: "Verified", status: "Status",
  language_code: "Language", time_zone: "Time zone", commcare_email_address: "E-mail", contact_backend_id: "Gateway",
};
// What a table of cases shows; on a narrow page the rest stands on the case itself.
const COLUMNS = [["name", "Name"], ["contact_phone_number", "Phone"], ["external_id", "External id"], ["two_way", "May reply"], ["language_code", "Language"], ["status", "Status"], ["last_reply_at", "Last reply"]];
const WIDE = { external_id: "wider", two_way: "more", language_code: "more", last_reply_at: "more" };
const addressOf = (id) => `02_cases.ipynb?case=${encodeURIComponent(id)}`;
const shown = (value) => (value === true ? "yes" : value === false ? "no" : value === null || value === undefined || value === "" ? "not set" : String(value));

// A name that leads to its case: an address on the desk, to be opened beside or sent to a colleague; a plain click may stay here.
function caseLink(id, name, open) {
  if (!id) return h("span", {}, name);
  if (!SERVED) return h("button", { class: "link", onclick: open }, name);
  return h("a", { href: addressOf(id), onclick: (event) => { if (open && !event.ctrlKey && !event.metaKey && !event.shiftKey) { event.preventDefault(); open(); } } }, name);
}

const statusChip = (c) => (c.status === "closed" ? h("span", { class: "chip bad" }, "closed") : c.stopped || c.consent === "stop" ? h("span", { class: "chip warn" }, "said STOP") : c.consent === "doubt" ? h("span", { class: "chip warn" }, "asked") : null);

function properties(c) {
  const pair = (name, value, title) => [h("dt", { title }, name), h("dd", shown(value) === "not set" ? { class: "soft" } : {}, shown(value))];
  return h("dl", {}, pair("Case id", c.case_id), Object.entries(LABELS).map(([key, label]) => pair(label, c[key], key)), Object.entries(c.properties).sort().map(([k, v]) => pair(k, v)));
}

function number(c, open) {
  const one = (other) => [caseLink(other.case_id, other.name, open && (() => open(other.case_id))), other.since ? h("span", { class: "soft" }, ` since ${other.since}`) : null];
  const n = c.number;
  return [
    h("p", {}, n.says), n.owner && n.owner.case_id !== c.case_id && h("p", {}, "Owner: ", one(n.owner)),
    n.line.length ? [h("p", {}, "In line for it:"), h("ol", {}, n.line.map((other) => h("li", {}, other.case_id === c.case_id ? h("b", {}, "this case") : one(other))))] : null,
    n.others.length ? h("p", {}, "Also on this phone, not verified: ", n.others.map((other, i) => [i ? ", " : "", one(other)]).flat(2)) : null,
    c.warning && says("warn", c.warning),
  ].flat();
}

function consentOf(c) {
  if (!c.contact_phone_number) return h("p", { class: "soft" }, "Consent is kept by phone number, and there is none.");
  if (!c.consent.length) return h("p", { class: "soft" }, "This number never said STOP.");
  const holds = c.stopped ? says("warn", c.consent[0].kind === "doubt" ? "It may have said STOP and was asked: nothing is sent until it answers." : "It said STOP: nothing is sent until START comes from that phone.") : null;
  return [holds, h("ul", { class: "events" }, c.consent.map((e) => h("li", {}, h("b", {}, e.kind.toUpperCase()), ` ${e.says}`, e.words && [h("br"), `“${e.words}”`], h("small", {}, when(e.at), `, ${e.by}`))))];
}

function texts(rows) {
  return rows.map((t) => h("li", { class: t.direction }, h("p", {}, t.body), h("small", {}, t.direction === "in" ? "from them, " : "to them, ", when(t.at), `: ${t.says}`)));
}
