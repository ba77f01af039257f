function render({ model, el }) {
  const root = h("div", { class: "jd" });
  const { ask_, end } = living(model, root);
  const state = { rights: [], search: "", sort: "name", descending: false, first: 0, asked: 0, case: null, sheet: false };
  const result = h("div"), body = h("div");
  root.append(result, body);
  el.append(root);
  const may = (right) => state.rights.includes(right);

  function told(done, more) {
    const button = h("button", { onclick: () => tell(() => takeBack(done.number, button)) }, "Undo");
    result.replaceChildren(says("good", done.says, done.undoable && button, more));
  }
  // Once, however often it is pressed; what came of it stands above the page as it is then.
  async function takeBack(number, button) {
    button.disabled = true;
    try { const done = await ask_("undo", { number }); await route(); told(done); root.scrollIntoView({ block: "start" }); } finally { button.disabled = false; }
  }
  async function tell(act) {
    try { await act(); } catch (problem) { result.replaceChildren(says("bad", problem.message)); }
  }

  // -- where we are: the address has the case, so that it can be kept, sent and gone back from
  async function go(id) {
    result.replaceChildren();
    Object.assign(state, { case: id, sheet: false });
    if (SERVED) history.pushState(null, "", id ? addressOf(id) : location.pathname);
    await tell(route);
    root.scrollIntoView({ block: "nearest" });
  }
  function back() {
    result.replaceChildren();
    Object.assign(state, { case: new URLSearchParams(location.search).get("case"), sheet: false });
    tell(route);
  }
  async function route() {
    if (!may("read")) { body.replaceChildren(h("p", { class: "empty" }, "Your role adds people and does not look them up.")); return; }
    if (state.case) await drawCase();
    else if (state.sheet) drawSheet();
    else await drawFind();
  }

  // -- find
  const table = h("div");
  async function drawFind() {
    const search = h("input", { type: "search", placeholder: "Name, number, external id or case id", "aria-label": "Find a case", value: state.search });
    let timer;
    search.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => { state.search = search.value; state.first = 0; tell(drawTable); }, 150); });
    search.addEventListener("keydown", (event) => { if (event.key === "Enter") { clearTimeout(timer); state.search = search.value; state.first = 0; tell(async () => { const found = await drawTable(); if (found && found.count === 1) await go(found.rows[0].case_id); }); } });
    body.replaceChildren(h("div", { class: "row" }, h("div", { style: "flex: 1 1 280px; max-width: 640px" }, search), h("span", { class: "gap" }), may("lead") ? h("button", { onclick: () => { state.sheet = true; result.replaceChildren(); tell(route); } }, "Load a sheet") : null), table);
    await drawTable();
    search.focus();
  }

  async function drawTable() {
    const asked = ++state.asked;
    const found = await ask_("find", { search: state.search, sort: state.sort, descending: state.descending, first: state.first });
    if (asked !== state.asked) return null; // an answer to fewer letters came late
    result.replaceChildren();
    const { count: n, rows } = found;
    const sorts = ([key, label]) => h("th", { class: WIDE[key], "aria-sort": state.sort === key ? (state.descending ? "descending" : "ascending") : "none" },
      h("button", { onclick: () => { state.descending = state.sort === key && !state.descending; state.sort = key; state.first = 0; tell(drawTable); } }, label, state.sort === key ? (state.descending ? " ↓" : " ↑") : ""));
    const line = (r) => h("tr", {}, h("td", {}, caseLink(r.case_id, r.name || r.external_id || r.case_id, () => go(r.case_id))), h("td", {}, r.contact_phone_number || h("span", { class: "chip bad" }, "none")),
      h("td", { class: "wider" }, r.external_id || h("span", { class: "soft" }, r.case_id)), h("td", { class: "more" }, h("span", { class: `chip ${r.two_way ? "good" : ""}` }, r.two_way ? "yes" : "no")), h("td", { class: "more" }, r.language_code || ""), h("td", {}, statusChip(r) || "open"), h("td", { class: "more" }, when(r.last_reply_at)));
    const last = Math.min(state.first + 100, n);
    const pages = n > 100 ? h("div", { class: "row soft" }, `${(state.first + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${n.toLocaleString("en")}`,
      h("button", { disabled: state.first === 0, onclick: () => { state.first -= 100; tell(drawTable); } }, "Before"), h("button", { disabled: last >= n, onclick: () => { state.first += 100; tell(drawTable); } }, "Next")) : h("p", { class: "soft" }, count(n, "case"));
    table.replaceChildren(...(n ? [h("table", {}, h("thead", {}, h("tr", {}, COLUMNS.map(sorts))), h("tbody", {}, rows.map(line))), pages] : [nobody()]));
    return found;
  }

  function nobody() {
    if (state.search) return h("div", { class: "empty" }, h("h2", {}, "Nobody fits"), h("p", {}, "Try a piece of the name without accents, the last digits of the number, or the beginning of an id."));
    return h("div", { class: "empty" }, h("h2", {}, "No cases yet"), h("p", {}, may("lead") ? "A case is a person whom the programme texts. They come by a sheet, or by an export from CommCare as it is: press “Load a sheet”." : "You see the people of your own groups. Ask a lead to give you a group, or to put people into it."));
  }

  // -- a sheet of cases
  function drawSheet() {
    const place = h("div");
    const oldNew = (r) => h("ul", { class: "cells" }, Object.entries(r.changes || {}).map(([name, change]) => h("li", {}, oldAndNew(name, change))));
    const who = (r) => (r.case_id && r.verdict !== "create" ? caseLink(r.case_id, r.identifier, () => go(r.case_id)) : r.identifier || h("span", { class: "soft" }, "nobody named"));
    const drop = dropZone(place, "Split it, or ask the operator to load it with 'jumbe cases import'.", async (chosen, data) => {
      const proposal = await ask_("upload", { name: chosen.name }, data, 300000);
      planOf({ ask_, tell, told, place, proposal, after: async () => {}, columns: [["Case", who], ["Verdict", verdictChip], ["Old → new", oldNew], ["Why", why]] });
    });
    const download = (verb, name, label) => h("button", { class: "link", onclick: () => tell(async () => save(await ask_(verb, {}, null, 300000), name)) }, label);
    body.replaceChildren(h("p", {}, h("button", { class: "link", onclick: () => go(null) }, "← All cases")), h("h2", {}, "Load a sheet of cases"),
      h("p", { class: "soft" }, "One case a row, told apart by ", h("b", {}, "external_id"), " or ", h("b", {}, "case_id"), ", never by phone. Who is not there is made, who is there is changed. A blank cell leaves a value as it is, ", h("b", {}, "--"), " takes it away; a case export from CommCare loads as it comes."),
      drop, h("p", { class: "soft" }, download("template", "cases.xlsx", "Download an empty sheet"), " or ", download("everybody", "all_cases.xlsx", "all cases as a sheet"), ", to be changed and loaded again."), place);
  }

  // -- one case
  async function drawCase() {
    let c;
    try { c = await ask_("case", { case_id: state.case }); }
    catch (problem) { body.replaceChildren(says("bad", problem.message), h("p", {}, h("button", { onclick: () => go(null) }, "All cases"))); return; }
    state.case = c.case_id;
    const facts = h("div", {}, properties(c));
    const list = h("ol", { class: "texts" }, texts(c.texts));
    const older = h("button", { hidden: c.texts.length < 30, onclick: () => tell(async () => { const rows = await ask_("texts", { case_id: c.case_id, before: c.texts.at(-1).id }); c.texts.push(...rows); list.append(...texts(rows)); older.hidden = rows.length < 30; }) }, "Older texts");
    const changes = h("div", {}, h("button", { onclick: () => tell(async () => changes.replaceChildren(history_(await ask_("changes", { case_id: c.case_id })))) }, "Show what was changed"));
    const change = c.may_set.length ? h("button", { onclick: () => { result.replaceChildren(); change.hidden = true; edit(c, facts, () => { change.hidden = false; facts.replaceChildren(properties(c)); change.focus(); }); } }, "Change") : null;
    body.replaceChildren(
      h("p", {}, h("button", { class: "link", onclick: () => go(null) }, "← All cases")),
      h("div", { class: "row top" }, h("h2", {}, c.name || c.external_id || c.case_id), h("span", { class: "soft" }, c.external_id || c.case_id), statusChip(c), c.two_way ? h("span", { class: "chip good" }, "may reply") : null, h("span", { class: "gap" }), change),
      h("div", { class: "case" },
        h("div", {}, section("Properties", facts), section("The number", number(c, go), c.may_own ? h("button", { onclick: () => tell(async () => own(await ask_("hand_over", { case_id: c.case_id }))) }, "Make this case the owner") : null), section("Groups", c.memberships.length ? h("ul", { class: "events" }, c.memberships.map((m) => h("li", {}, h("b", {}, m.name), h("span", { class: "soft" }, ` ${m.short}`), h("small", {}, "since ", when(m.added_at))))) : h("p", { class: "soft" }, "In no group: nobody texts this case with others.")),
          section("Consent", consentOf(c))),
        h("div", {}, section("Texts", c.texts.length ? [list, older] : h("p", { class: "soft" }, "No texts yet, neither to this case nor from it.")), section("History", changes))));
  }
  function own(proposal) {
    ask(root, `${proposal.says}?`, [meanwhile(proposal), h("ul", {}, proposal.goes_with.map((words) => h("li", {}, words)))], "Hand it over", async () => {
      const done = await confirm_(ask_, proposal);
      if (done.stale) { own(done); return; }
      await drawCase();
      told(done);
    });
  }
  const section = (title, ...parts) => h("section", {}, h("h3", {}, title), parts);

  // -- change: what was typed, then old and new, and only then a button that does it
  function edit(c, place, leave) {
    const fields = new Map();
    const text = (value) => (value === true ? "yes" : value === false ? "no" : value ?? "");
    const field = (name, value) => {
      const choices = { status: ["open", "closed"], contact_phone_number_is_verified: ["yes", "no"] }[name];
      const input = choices ? h("select", { id: `f-${name}`, name }, choices.map((choice) => h("option", { value: choice, selected: choice === text(value) }, choice))) : h("input", { type: "text", id: `f-${name}`, name, value: text(value), autocomplete: "off" });
      fields.set(name, { input, old: text(value) });
      return [h("dt", {}, h("label", { for: `f-${name}`, title: name }, LABELS[name] || name)), h("dd", {}, input)];
    };
    const fresh = { name: h("input", { type: "text", "aria-label": "Name of a further property", placeholder: "a further property" }), value: h("input", { type: "text", "aria-label": "Its value", placeholder: "its value" }) };
    const leads = Object.keys(LABELS).filter((name) => !c.may_set.includes(name));
    const plan = h("div");
    const look = async () => {
      const values = Object.fromEntries([...fields].filter(([, f]) => f.input.value !== f.old).map(([name, f]) => [name, f.input.value]));
      if (fresh.name.value.trim()) values[fresh.name.value.trim()] = fresh.value.value;
      if (!Object.keys(values).length) { plan.replaceChildren(says("warn", "Nothing is different yet.")); return; }
      try { ask1(await ask_("change", { case_id: c.case_id, values })); } catch (problem) { plan.replaceChildren(says("bad", problem.message)); }
    };
    function ask1(proposal) {
      const [row] = proposal.rows;
      if (!proposal.acts) { plan.replaceChildren(says(row.reason ? "bad" : "warn", row.reason || "Nothing is different.")); return; }
      const doIt = h("button", { class: "main", onclick: async () => {
        doIt.disabled = true;
        try {
          const done = await confirm_(ask_, proposal);
          if (done.stale) { ask1(done); return; }
          told(done);
          await drawCase();
          root.scrollIntoView({ block: "start" });
        }
        catch (problem) { plan.replaceChildren(says("bad", problem.message)); }
      } }, proposal.says);
      plan.replaceChildren(meanwhile(proposal) || says("warn", "Nothing has been changed yet."), h("ul", { class: "events" }, Object.entries(row.changes).map(([name, change]) => h("li", {}, oldAndNew(name, change)))),
        proposal.goes_with.length || row.warnings.length ? h("ul", {}, [...proposal.goes_with, ...row.warnings].map((words) => h("li", {}, words))) : "", h("div", { class: "row" }, doIt, h("button", { onclick: () => plan.replaceChildren() }, "Not yet")));
      doIt.focus();
    }
    const form = h("form", { onsubmit: (event) => { event.preventDefault(); look(); }, oninput: () => plan.replaceChildren() },
      h("dl", { class: "form" }, c.may_set.map((name) => field(name, c[name])), Object.entries(c.properties).sort().map(([name, value]) => field(name, value)), h("dt", {}, fresh.name), h("dd", {}, fresh.value)),
      leads.length ? h("p", { class: "soft" }, `${leads.map((name) => LABELS[name]).join(", ")}: a lead changes these; your texts 'move' and 'invite' ask the phone itself.`) : null,
      h("div", { class: "row" }, h("button", { class: "main", type: "submit" }, "See what would change"), h("button", { type: "button", onclick: leave }, "Leave it")));
    place.replaceChildren(form, plan);
    form.querySelector("input").focus();
  }

  function history_(lines) {
    if (!lines.length) return h("p", { class: "soft" }, "Nothing was changed yet.");
    return h("ul", { class: "events" }, lines.map((l) => h("li", {}, l.number ? h("span", { class: "soft" }, `${l.number} `) : null, h("b", {}, l.takes_back ? `Took ${l.number} back` : { made: "Made", changed: "Changed", forgotten: "Made or changed, and the values were forgotten" }[l.did]), ` ${l.how}`, l.undoable ? [" ", undoButton(l)] : null,
      h("ul", {}, Object.entries(l.changes).map(([name, change]) => h("li", {}, oldAndNew(name, change)))), h("small", {}, when(l.at), `, ${l.person}, ${l.door}`, l.source ? `, ${l.source}` : ""))));
  }
  // A sheet is taken back whole, so of more than this case it is asked first.
  function undoButton(l) {
    const button = h("button", { onclick: () => (l.many > 1 ? ask(root, `Take ${l.number} back?`, h("p", {}, `It made or changed ${count(l.many, "case")}, not this one alone. All of them become as they were before; what somebody changed since stays.`), `Undo all ${l.many.toLocaleString("en")}`, undo, "bad") : tell(undo)) }, l.many > 1 ? `Undo all ${l.many.toLocaleString("en")}` : "Undo");
    const undo = () => takeBack(l.number, button);
    return button;
  }
  const oldAndNew = (name, [before, after]) => [h("span", { class: "soft" }, `${name === "two_way" ? "May reply" : LABELS[name] || name}: `), shown(before) === "not set" ? null : [h("s", {}, shown(before)), " → "], h("b", {}, shown(after))].flat();

  window.addEventListener("popstate", back);
  (async () => {
    try {
      state.rights = (await ask_("who")).rights;
      state.case = (SERVED && new URLSearchParams(location.search).get("case")) || model.get("case") || null;
      await route();
      const asked = await unanswered(ask_);
      if (asked) asked.done ? told(asked.done) : result.replaceChildren(notDone(asked));
    } catch (problem) { body.replaceChildren(says("bad", problem.message)); }
  })();
  return () => { end(); window.removeEventListener("popstate", back); };
}

export default { render };
