// A sheet on a page: where it is dropped, and its plan: chips as filters, problems first, a button that names its effect.

const VERDICTS = {
  add: ["will be added", "good"], remove: ["will be removed", "good"], already_in: ["already in", ""], not_member: ["not a member", ""],
  duplicate: ["twice in the sheet", "warn"], not_found: ["not found", "bad"], ambiguous: ["several cases fit", "bad"],
  create: ["will be made", "good"], update: ["will be changed", "good"], unchanged: ["as it is", ""], invalid: ["cannot be used", "bad"],
  no_phone: ["no phone number", "bad"], closed: ["closed", "bad"], unreadable: ["cannot be read", "bad"],
};
const LIMIT = 8 * 2 ** 20;

const verdictChip = (r) => { const [label, kind] = VERDICTS[r.verdict] || [r.verdict, ""]; return h("span", { class: `chip ${kind}` }, label); };
const why = (r) => h("span", { class: "why" }, [r.reason, ...r.warnings].filter(Boolean).join(" "));

// `read` gets the file and its bytes; `smaller` says what to do with one that is too large for a page.
function dropZone(place, smaller, read) {
  const file = h("input", { type: "file", accept: ".xlsx,.csv", class: "sr", "aria-label": "Choose a sheet", onchange: () => { take(file.files[0]); file.value = ""; } });
  const drop = h("div", { class: "drop", tabindex: 0, role: "button", onclick: () => file.click(), onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); file.click(); } },
    ondragover: (event) => { event.preventDefault(); drop.classList.add("over"); }, ondragleave: () => drop.classList.remove("over"), ondrop: (event) => { event.preventDefault(); drop.classList.remove("over"); take(event.dataTransfer.files[0]); } },
    "Drop a sheet here, or click to choose one (.xlsx or .csv)");
  async function take(chosen) {
    if (!chosen) return;
    place.replaceChildren(h("p", { class: "soft", role: "status" }, `Reading ${chosen.name} ...`));
    try {
      if (chosen.size > LIMIT) throw new Error(`${chosen.name} has ${(chosen.size / 2 ** 20).toFixed(1)} MB, and a page takes 8 MB. ${smaller}`);
      await read(chosen, await chosen.arrayBuffer());
    } catch (problem) { place.replaceChildren(says("bad", problem.message)); }
  }
  return h("div", {}, drop, file);
}

// `columns` are titles and what each shows of a row; `after` is called when it was done.
function planOf({ ask_, tell, told, place, proposal, columns, after }) {
  let only = "";
  const rows = h("div");
  const chips = Object.entries(proposal.counts).map(([verdict, n]) => {
    const chip = h("button", { "aria-pressed": "false", onclick: () => tell(async () => { only = only === verdict ? "" : verdict; chips.forEach((c) => c.setAttribute("aria-pressed", String(c === chip && !!only))); list(await ask_("rows", { mark: proposal.mark, verdict: only })); }) }, verdictChip({ verdict }), ` ${n.toLocaleString("en")}`);
    return chip;
  });
  function list(shown_) {
    const all = only ? proposal.counts[only] : Object.values(proposal.counts).reduce((sum, n) => sum + n, 0);
    rows.replaceChildren(h("table", { class: "stack" }, h("thead", {}, h("tr", {}, h("th", { class: "n" }, "Row"), columns.map(([title]) => h("th", {}, title)))),
      h("tbody", {}, shown_.map((r) => h("tr", {}, h("td", { class: "n" }, r.row ?? ""), columns.map(([, cell]) => h("td", { class: cell === why ? "why" : null }, cell(r))))))),
      all > shown_.length ? h("p", { class: "soft" }, `The first ${shown_.length.toLocaleString("en")} of ${all.toLocaleString("en")} rows; the checked sheet has every one.`) : "");
  }
  const sheet = () => h("button", { onclick: () => tell(async () => save(await ask_("result", { mark: proposal.mark }, null, 300000), "checked.xlsx")) }, "Download the checked sheet");
  const go = h("button", { class: "main", disabled: !proposal.acts, onclick: () => tell(async () => {
    go.disabled = true;
    try {
      const done = await confirm_(ask_, proposal);
      if (done.stale) { planOf({ ask_, tell, told, place, proposal: done, columns, after }); return; }
      told(done, sheet());
      place.replaceChildren();
      await after();
    } catch (problem) { go.disabled = false; throw problem; }
  }) }, proposal.says);
  place.replaceChildren(meanwhile(proposal) || says("warn", "Nothing has been changed yet."), proposal.refusal ? says("bad", proposal.refusal) : "", ...proposal.goes_with.map((words) => says("warn", words)), h("div", { class: "row filters" }, chips),
    h("div", { class: "row", style: "margin-top: 10px" }, go, sheet(), h("button", { onclick: () => place.replaceChildren() }, "Cancel")), rows);
  list(proposal.rows);
}
