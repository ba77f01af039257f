function render({ model, el }) {
  const root = h("div", { class: "jd" });
  const { ask_, end } = living(model, root);
  const state = { groups: [], short: null, tab: "members", search: "", sort: "name", descending: false, first: 0, asOf: "", ticked: new Set(), rights: [] };
  const left = h("nav", { "aria-label": "Case groups" }), right = h("main");
  root.append(h("div", { class: "two" }, left, right));
  el.append(root);
  const may = (right_) => state.rights.includes(right_);

  // -- left: the groups as cards
  const cards = h("div", { class: "cards" }), gone = h("div");
  const find = h("input", { type: "search", placeholder: "Find a group", "aria-label": "Find a group", oninput: drawCards });
  left.append(find, cards, gone);

  function drawCards() {
    const word = find.value.trim().toLowerCase();
    const shown = state.groups.filter((g) => !word || g.short.includes(word) || g.name.toLowerCase().includes(word));
    cards.replaceChildren(...shown.map((g) => h("button", { class: "card", "aria-current": String(g.short === state.short), onclick: () => open(g.short) },
      h("b", {}, g.name), h("span", { class: "n" }, g.members.toLocaleString("en")), h("small", {}, g.short))));
    if (!shown.length) cards.append(h("p", { class: "soft" }, state.groups.length ? "No group is called so." : "No groups yet."));
  }

  async function drawDeleted() {
    const rows = await ask_("deleted");
    gone.replaceChildren(rows.length ? h("details", {}, h("summary", { class: "soft" }, `Deleted in the last day: ${rows.length}`),
      h("ul", { class: "events" }, rows.map((g) => h("li", {}, h("b", {}, g.name), h("span", { class: "soft" }, ` ${g.short}, ${count(g.members, "case")}`), " ", undoButton(g.number, g.name, g.short), h("small", {}, `${g.person}, `, when(g.deleted_at)))))) : "");
  }

  async function refresh() {
    state.groups = await ask_("groups");
    await drawDeleted();
    if (!state.groups.some((g) => g.short === state.short)) state.short = [...state.groups].sort((a, b) => b.members - a.members)[0]?.short || null;
    drawCards();
    await draw();
  }

  async function open(short) {
    result.replaceChildren();
    Object.assign(state, { short, search: "", first: 0, asOf: "", ticked: new Set() });
    drawCards();
    await draw();
  }

  // -- right: one group
  const result = h("div"), body = h("div");
  function told(done, more) {
    result.replaceChildren(says("good", done.says, done.undoable && undoButton(done.number), more));
  }
  // Taken back once, however often it is pressed; a group that comes back is shown.
  const undoButton = (number, what = "", short = null) => {
    const button = h("button", { "aria-label": `Undo ${what || number}`, onclick: () => tell(async () => {
      button.disabled = true;
      try { const done = await ask_("undo", { number }); state.short = short || state.short; await refresh(); told(done); } finally { button.disabled = false; }
    }) }, "Undo");
    return button;
  };
  async function tell(act) {
    try { await act(); } catch (problem) { result.replaceChildren(says("bad", problem.message)); }
  }

  async function draw() {
    if (!state.short) {
      right.replaceChildren(result, h("div", { class: "empty" }, h("h2", {}, "No groups yet"), h("p", {}, "A group is whom you text together, such as everybody of one clinic."), may("change") && h("button", { class: "main", onclick: create }, "Make the first group")));
      return;
    }
    const group = await ask_("group", { short: state.short });
    const figure = (n, words) => n ? h("span", {}, h("b", {}, n.toLocaleString("en")), ` ${words}`) : null;
    const tab = (key, label) => h("button", { role: "tab", "aria-selected": String(state.tab === key), onclick: () => { state.tab = key; result.replaceChildren(); draw(); } }, label);
    right.replaceChildren(
      h("div", { class: "row top" }, h("h2", {}, group.name), h("span", { class: "soft" }, group.short), h("span", { class: "gap" }),
        may("change") && h("button", { onclick: () => rename(group) }, "Rename"), may("change") && h("button", { class: "bad", onclick: () => remove(group) }, "Delete")),
      h("div", { class: "figures" }, h("span", {}, h("b", {}, group.members.toLocaleString("en")), group.members === 1 ? " case" : " cases"), figure(group.two_way, "may reply"), figure(group.unverified, "not verified"),
        figure(group.no_number, "without a number"), figure(group.stopped, "said STOP"), figure(group.closed, "closed"), group.running?.length ? h("span", {}, `waiting or running: ${group.running.join(", ")}`) : null),
      h("div", { class: "tabs", role: "tablist" }, tab("members", "Members"), may("add") && tab("upload", "Upload a sheet"), may("read") && tab("history", "History")),
      result, body);
    await tell({ members: drawMembers, upload: drawUpload, history: drawHistory }[state.tab]);
  }

  // -- members
  const adding = h("div");
  async function drawMembers() {
    const box = h("textarea", { rows: 1, placeholder: "Phone number, external id or case id; paste many", "aria-label": "Add cases", onkeydown: (event) => { if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); add(box); } } });
    const search = h("input", { type: "search", placeholder: "Search name, id or number", "aria-label": "Search members", value: state.search });
    let timer;
    search.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => { state.search = search.value; state.first = 0; tell(drawTable); }, 150); });
    const date = h("input", { type: "date", "aria-label": "As of a day", value: state.asOf, style: "width: 150px", onchange: () => { state.asOf = date.value; state.first = 0; state.ticked.clear(); tell(drawTable); } });
    adding.replaceChildren();
    body.replaceChildren(
      may("add") ? h("div", { class: "row", style: "flex-wrap: nowrap" }, box, h("button", { class: "main", style: "white-space: nowrap", onclick: () => add(box) }, "Add case")) : "", adding,
      may("read") ? h("div", { class: "row", style: "margin-top: 14px; flex-wrap: nowrap" }, search, h("span", { class: "soft", style: "white-space: nowrap" }, "as of"), date) : h("p", { class: "soft" }, "Your role adds people and does not list them."), table);
    if (may("read")) await drawTable();
  }

  const table = h("div");
  async function drawTable() {
    const { count: n, rows } = await ask_("members", { short: state.short, search: state.search, sort: state.sort, descending: state.descending, first: state.first, as_of: state.asOf });
    const canTick = may("change") && !state.asOf;
    const sorts = ([key, label]) => h("th", { class: WIDE[key], "aria-sort": state.sort === key ? (state.descending ? "descending" : "ascending") : "none" },
      h("button", { onclick: () => { state.descending = state.sort === key && !state.descending; state.sort = key; state.first = 0; tell(drawTable); } }, label, state.sort === key ? (state.descending ? " ↓" : " ↑") : ""));
    const all = h("input", { type: "checkbox", "aria-label": "Tick all shown", onchange: () => { rows.forEach((r) => (all.checked ? state.ticked.add(r.case_id) : state.ticked.delete(r.case_id))); tell(drawTable); } });
    all.checked = rows.length > 0 && rows.every((r) => state.ticked.has(r.case_id));
    const line = (r) => {
      const tick = h("input", { type: "checkbox", "aria-label": `Tick ${r.name || r.case_id}`, onchange: () => { tick.checked ? state.ticked.add(r.case_id) : state.ticked.delete(r.case_id); bar(); } });
      tick.checked = state.ticked.has(r.case_id);
      return h("tr", {}, canTick && h("td", { class: "tick" }, tick), h("td", {}, caseLink(r.case_id, r.name || r.case_id, () => tell(() => card(r.case_id)))),
        h("td", {}, r.contact_phone_number || h("span", { class: "chip bad" }, "none")), h("td", { class: "wider" }, r.external_id || ""), h("td", { class: "more" }, h("span", { class: `chip ${r.two_way ? "good" : ""}` }, r.two_way ? "yes" : "no")),
        h("td", { class: "more" }, r.language_code || ""), h("td", {}, statusChip(r) || "open"), h("td", { class: "more" }, when(r.last_reply_at)));
    };
    const actions = h("div", { class: "row" });
    const bar = () => actions.replaceChildren(...(state.ticked.size ? [h("button", { class: "bad", onclick: () => tell(dropTicked) }, `Remove ${count(state.ticked.size, "case")}`), h("button", { onclick: () => { state.ticked.clear(); tell(drawTable); } }, "Untick")] : []));
    bar();
    const last = Math.min(state.first + 100, n);
    const pages = n > 100 ? h("div", { class: "row soft" }, `${(state.first + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${n.toLocaleString("en")}`,
      h("button", { disabled: state.first === 0, onclick: () => { state.first -= 100; tell(drawTable); } }, "Before"), h("button", { disabled: last >= n, onclick: () => { state.first += 100; tell(drawTable); } }, "Next")) : h("p", { class: "soft" }, state.search || state.asOf ? count(n, "case") : "");
    const head = h("tr", {}, canTick && h("th", { class: "tick" }, all), COLUMNS.map(sorts));
    table.replaceChildren(state.asOf ? says("warn", `As it was on ${state.asOf}; properties are those of today.`) : "", actions,
      n ? h("table", {}, h("thead", {}, head), h("tbody", {}, rows.map(line))) : h("p", { class: "empty" }, state.search || state.asOf ? "Nobody fits." : "No cases yet: add one above, or upload a sheet."), pages);
  }

  async function dropTicked() {
    const proposal = await ask_("remove", { short: state.short, case_ids: [...state.ticked] });
    const done = await confirm_(ask_, proposal);
    state.ticked.clear();
    await refresh();
    done.stale ? plan(adding, done, () => {}) : told(done);
  }

  async function add(box) {
    if (!box.value.trim()) return;
    try {
      const proposal = await ask_("add", { short: state.short, typed: box.value });
      if (proposal.rows.length === 1) {
        const [row] = proposal.rows;
        if (!proposal.acts) throw new Error([row.reason, row.suggestion && `Did you mean ${row.suggestion}?`].filter(Boolean).join(" "));
        const done = await confirm_(ask_, proposal);
        if (done.stale) { plan(adding, done, () => { box.value = ""; }); return; }
        told(done, row.warnings.length ? h("span", { class: "chip warn" }, row.warnings.join(" ")) : null);
        box.value = "";
        await Promise.all([ask_("groups").then((g) => { state.groups = g; drawCards(); }), may("read") ? drawTable() : null]);
        adding.replaceChildren();
        box.focus();
      } else plan(adding, proposal, () => { box.value = ""; });
    } catch (problem) { adding.replaceChildren(says("bad", problem.message)); box.focus(); }
  }

  // -- a plan
  const plan = (place, proposal, after) => planOf({ ask_, tell, told, place, proposal, after: async () => { after(); await refresh(); }, columns: [
    ["Identifier", (r) => r.identifier], ["Verdict", verdictChip], ["Why", why], ["Suggestion", (r) => r.suggestion || ""]] });

  // -- upload
  async function drawUpload() {
    const modes = [["add", "Add the cases in the sheet"], ["remove", "Remove the cases in the sheet"], ["replace", "Make the sheet the whole group"]].filter(([mode]) => mode === "add" || may("change"));
    let mode = "add";
    const place = h("div");
    const drop = dropZone(place, "Keep only the column case_identifier, or ask the operator to load it with 'jumbe groups import'.", async (chosen, data) => plan(place, await ask_("upload", { short: state.short, name: chosen.name, mode }, data, 300000), () => {}));
    body.replaceChildren(h("div", { class: "row" }, modes.map(([key, label]) => { const radio = h("input", { type: "radio", name: "mode", value: key, onchange: () => { mode = key; place.replaceChildren(); } }); radio.checked = key === mode; return h("label", { class: "row", style: "display: flex; margin-right: 12px" }, radio, label); })),
      drop, h("p", { class: "soft" }, "One column, ", h("b", {}, "case_identifier"), ": phone numbers, external ids or case ids, mixed as you like. ", h("button", { class: "link", onclick: () => tell(async () => save(await ask_("template"), "cases_bulk_example.xlsx")) }, "Download an empty sheet")), place);
  }

  // -- history
  async function drawHistory() {
    const lines = await ask_("history", { short: state.short });
    const words = { create: "made the group", rename: "renamed it", add: "added", remove: "removed", delete: "deleted it", restore: "brought it back" };
    const did = (l) => `${words[l.did] || l.did}${l.cases !== null && ["add", "remove"].includes(l.did) ? ` ${count(l.cases, "case")}` : ""}`;
    const what = (l) => [did(l), l.takes_back ? h("span", { class: "soft" }, `, taking ${l.number} back`) : null, l.undoable ? [" ", undoButton(l.number)] : null];
    body.replaceChildren(h("p", { class: "soft" }, "What was done can be taken back here for a day, or by a text such as ", h("b", {}, "undo 58"), "."), h("table", { class: "stack deeds" }, h("thead", {}, h("tr", {}, h("th", { class: "n" }, "No."), ["When", "Who", "Did", "Through", "By"].map((t) => h("th", {}, t)))),
      h("tbody", {}, lines.map((l) => h("tr", {}, h("td", { class: "n" }, l.number ?? ""), h("td", {}, when(l.at)), h("td", {}, l.person), h("td", {}, what(l)), h("td", {}, l.door), h("td", {}, l.source || ""))))));
  }

  // -- a case
  async function card(id) {
    const c = await ask_("case", { case_id: id });
    const dialog = h("dialog", { class: "wide" }, h("div", { class: "row top", style: "justify-content: flex-start; margin-top: 0" }, h("h2", {}, c.name || c.case_id), statusChip(c)), properties(c), h("h3", {}, "The number"), number(c),
      h("h3", {}, "Groups"), h("p", {}, c.groups.join(", ")), h("h3", {}, "Consent"), consentOf(c), h("h3", {}, "Last texts"), c.texts.length ? h("ol", { class: "texts" }, texts(c.texts.slice(0, 5))) : h("p", { class: "soft" }, "No texts yet."),
      h("div", { class: "row" }, SERVED ? h("a", { href: addressOf(c.case_id) }, "Open the whole case") : null, h("button", { onclick: () => dialog.close() }, "Close")));
    dialog.addEventListener("close", () => dialog.remove());
    root.append(dialog);
    dialog.showModal();
  }

  // -- make, rename, delete
  function create() {
    ask(root, "Make a group", [h("label", {}, h("span", {}, "Long name"), h("input", { type: "text", name: "name", placeholder: "Antenatal care" })), h("label", {}, h("span", {}, "Short name, for texts: 2 to 12 letters or digits"), h("input", { type: "text", name: "short", placeholder: "anc", required: true, maxlength: 12 }))], "Make it",
      async ({ short, name }) => { const done = await confirm_(ask_, await ask_("create", { short, name })); state.short = short.trim().toLowerCase(); await refresh(); told(done); });
  }
  function rename(group) {
    ask(root, `Rename ${group.name}`, h("label", {}, h("span", {}, "Long name"), h("input", { type: "text", name: "name", value: group.name, required: true })), "Rename",
      async ({ name }) => { const done = await confirm_(ask_, await ask_("rename", { short: group.short, name })); await refresh(); done.stale ? result.replaceChildren(meanwhile(done)) : told(done); });
  }
  async function remove(group) {
    await tell(async () => {
      sure(await ask_("delete", { short: group.short }));
    });
  }
  function sure(proposal) {
    ask(root, `${proposal.says}?`, [meanwhile(proposal), h("p", {}, "This"), h("ul", {}, proposal.goes_with.map((t) => h("li", {}, t))), h("p", { class: "soft" }, "A lead can take it back for 24 hours."), h("label", {}, h("span", {}, `Type ${proposal.must_type} to confirm`), h("input", { type: "text", name: "typed", autocomplete: "off" }))], proposal.says,
      async ({ typed }) => { const done = await confirm_(ask_, proposal, { typed }); if (done.stale) { sure(done); return; } await refresh(); told(done); }, "bad");
  }

  (async () => {
    try {
      const who = await ask_("who");
      state.rights = who.rights;
      if (may("change")) left.append(h("button", { style: "width: 100%", onclick: create }, "New group"));
      left.append(h("p", { class: "soft", style: "margin-top: 12px" }, `${who.programme}: ${who.name}, ${who.role}`));
      await refresh();
      const asked = await unanswered(ask_);
      if (asked) asked.done ? told(asked.done) : result.replaceChildren(notDone(asked));
    } catch (problem) { right.replaceChildren(says("bad", problem.message)); }
  })();
  return end;
}

export default { render };
