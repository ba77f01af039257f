const NEEDS = { high: ["bad", "may hurt somebody"], look: ["warn", "look at it"], note: ["", "good to know"] };
const MIXES = ["language_code", "time_zone", "gateway"];

function render({ model, el }) {
  const root = h("div", { class: "jd" });
  const { ask_, end } = living(model, root);
  const state = { group: new URLSearchParams(location.search).get("group") || model.get("group") || "", since: model.get("since") || "" };
  const bar = h("div", { class: "row asked" }), found = h("section"), pictures = h("section"), whom = h("section"), result = h("div");
  const all = h("div", { class: "audit" }, found, pictures, whom);
  root.append(bar, result, all);
  el.append(root);
  const tell = async (act) => { try { result.replaceChildren(); await act(); } catch (problem) { result.replaceChildren(says("bad", problem.message)); } };

  function drawBar(groups) {
    const group = h("select", { "aria-label": "Which group", onchange: () => { state.group = group.value; tell(draw); } }, h("option", { value: "" }, "Every group"), groups.map((g) => h("option", { value: g.short, selected: g.short === state.group }, g.name)));
    const since = h("input", { type: "date", value: state.since, "aria-label": "Since a day", onchange: () => { state.since = since.value; tell(draw); } });
    const download = (label, ending) => h("button", { onclick: (event) => { const pressed = event.target; tell(async () => { pressed.disabled = true; try { save(await ask_("report", { ...state, ending }, null, 300000), `audit${ending}`); } finally { pressed.disabled = false; } }); } }, label);
    bar.replaceChildren(h("label", {}, h("span", {}, "Who"), group), h("label", {}, h("span", {}, "Since"), since), h("span", { class: "gap" }), download("To print", ".html"), download("As a workbook", ".xlsx"));
  }

  // -- what was found
  function line(f) {
    const place = h("div"), [kind, words] = NEEDS[f.needs];
    const who = h("button", { class: "link", "aria-expanded": "false", onclick: () => tell(async () => {
      const open = who.getAttribute("aria-expanded") === "true";
      place.replaceChildren(open ? "" : listed(await ask_("which", { key: f.check }), f.count));
      who.setAttribute("aria-expanded", String(!open));
      who.textContent = open ? "Which" : "Hide";
    }) }, "Which");
    return h("li", {}, h("div", { class: "finding" }, h("b", { class: "n" }, f.count.toLocaleString("en")), h("div", {}, h("p", {}, f.found, " ", h("span", { class: `chip ${kind}` }, words)), h("p", { class: "soft" }, f.mend)), who), place);
  }

  function listed({ columns, rows }, n) {
    const id = columns.indexOf("case_id"), named = columns.indexOf("name");
    const shown = columns.map((name, i) => [name, i]).filter(([name]) => name !== "case_id");
    const cell = (row, i) => (i === named && id >= 0 ? caseLink(row[id], row[i] || row[id]) : row[i] === null ? "" : String(row[i]));
    return h("div", { class: "which" }, h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, shown.map(([name]) => h("th", {}, LABELS[name] || name.replaceAll("_", " "))))), h("tbody", {}, rows.map((row) => h("tr", {}, shown.map(([, i]) => h("td", {}, cell(row, i)))))))),
      n > rows.length ? h("p", { class: "soft" }, `and ${(n - rows.length).toLocaleString("en")} more: the workbook has them.`) : null);
  }

  function drawFound(told) {
    const some = told.findings.filter((f) => f.count), none = told.findings.filter((f) => !f.count);
    found.replaceChildren(h("h3", {}, some.length ? "What to look at" : "Nothing was found: all is well"), h("ul", { class: "findings" }, some.map(line)),
      none.length ? h("details", {}, h("summary", {}, `${count(none.length, "more check")}: nothing found`), h("ul", {}, none.map((f) => h("li", {}, f.found)))) : "");
    const { columns, rows } = told.by_whom;
    const numeric = (name) => name === "added" || name === "removed";
    whom.replaceChildren(h("h3", {}, "Who added and removed them"), rows.length ? h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, columns.map((name) => h("th", numeric(name) ? { class: "n" } : {}, { last_at: "last" }[name] || name)))), h("tbody", {}, rows.map((row) => h("tr", {}, row.map((value, i) => h("td", numeric(columns[i]) ? { class: "n" } : {}, value === null ? "" : value.toLocaleString("en")))))))) : h("p", { class: "soft" }, "Nobody did, in this time."));
  }

  async function picture(name, words) {
    const drawn = await ask_("picture", { name, width: pictures.clientWidth, ...state });
    const address = URL.createObjectURL(new Blob([drawn], { type: "image/svg+xml" }));
    return h("img", { class: "picture", src: address, alt: words, onload: () => URL.revokeObjectURL(address) });
  }

  let asked = 0;
  async function draw() {
    const mine = (asked += 1);
    all.setAttribute("aria-busy", "true"); // until then what stands there is of another question
    const told = await ask_("audit", state);
    if (mine !== asked) return;
    drawFound(told);
    pictures.replaceChildren();
    all.setAttribute("aria-busy", "false");
    const drawn = [];
    for (const [name, words] of [["over_time", "Members by day, with who joined and who left"], ["overlaps", "How many members each two groups share"], ...MIXES.map((by) => [by, `Members by ${by.replace("_code", "").replace("_", " ")}`])]) {
      drawn.push(await picture(name, words));
      if (mine !== asked) return;
      pictures.replaceChildren(...drawn);
    }
  }

  found.replaceChildren(h("p", { class: "soft", role: "status" }, "Looking …"));
  ask_("groups").then(async (groups) => {
    if (!groups.length) {
      all.replaceChildren(h("div", { class: "empty" }, h("h2", {}, "No groups yet"), h("p", {}, "An audit looks at who is in your groups: who cannot be reached, who shares a phone, who came and went."), SERVED ? h("p", {}, h("a", { href: "01_case_groups.ipynb" }, "Make the first group")) : null));
      return;
    }
    drawBar(groups);
    await tell(draw);
  }).catch((problem) => found.replaceChildren(says("bad", problem.message)));
  return end;
}

export default { render };
