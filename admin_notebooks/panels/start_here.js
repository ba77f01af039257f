const PAGES = [
  ["01_case_groups", "Case groups", "Whom you text together: make groups, put cases in, upload a sheet."],
  ["02_cases", "Cases", "Find somebody, see everything that is known of them, change it, or upload many."],
  ["03_broadcasts", "Broadcasts", "Write a text, see who gets it and who not, and let it go."],
  ["04_delivery", "Delivery", "What became of every text, in words."],
  ["05_membership_audit", "Membership audit", "Who should be looked at and what mends it, who came and went."],
];
const NAMES = { sqlite: "Database", postgresql: "Database", database: "Database", stamp: "Kind", worker: "Sending", gateways: "Gateways", queue: "Queue", unknown: "In doubt", inbox: "Inbox", audit: "Log", disk: "Disk", backup: "Backup", jobs: "Jobs", fence: "Restore", speed: "Speed" };

function render({ model, el }) {
  const root = h("div", { class: "jd" });
  const { ask_, end } = living(model, root);
  const well = h("section"), links = h("section"), attempt = h("section");
  root.append(well, links, attempt);
  el.append(root);

  function drawWell(start) {
    if (!start.lines) {
      well.replaceChildren(h("p", {}, `${start.name}, ${start.role}: ${count(start.groups, "group")} with ${count(start.cases, "case")}.`));
      return;
    }
    const bad = start.lines.filter((line) => !line.well);
    well.replaceChildren(
      bad.length ? says("warn", h("b", {}, bad.length === 1 ? "One thing wants looking at" : `${bad.length} things want looking at`)) : says("good", h("b", {}, "Everything is well."), h("span", {}, `${count(start.groups, "group")} with ${count(start.cases, "case")}.`)),
      ...bad.map((line) => h("p", {}, h("b", {}, NAMES[line.name] || line.name), ": ", line.says)),
      h("details", {}, h("summary", {}, "All that was looked at"), h("table", {}, h("tbody", {}, ...start.lines.map((line) => h("tr", {}, h("td", {}, h("span", { class: `chip ${line.well ? "good" : "warn"}` }, line.well ? "well" : "look")), h("td", {}, NAMES[line.name] || line.name), h("td", { class: "why" }, line.says)))))),
    );
  }

  // As pages the names stand in the address; in the lab they are files beside this one.
  const addressOf = (file) => (location.pathname.includes("/voila/render/") ? `${file}.ipynb` : `/lab/tree/${file}.ipynb`);

  function drawLinks({ pages, groups, cases, rights }) {
    const step = (file, words, why) => h("li", {}, h("a", { href: addressOf(file) }, words), h("span", { class: "soft" }, ` ${why}`));
    links.replaceChildren(
      cases || !rights.includes("lead") ? "" : h("div", { class: "sheet" }, h("h3", {}, "The first day"), h("ol", {},
        step("02_cases", "Load your cases", "from a sheet: a name, a phone number and an id of your own for each."),
        groups ? null : step("01_case_groups", "Make a group", "of those whom you text together, such as everybody of one clinic."),
        step("01_case_groups", "Put cases into it", "by a sheet, or one at a time."),
        step("03_broadcasts", "Write to them", "and send it to your own phone first."))),
      h("h3", {}, "Where to go"), h("div", { class: "places" }, ...PAGES.filter(([file]) => pages.includes(file)).map(([file, name, what]) =>
        h("a", { class: "place", href: addressOf(file) }, h("b", {}, name), h("span", { class: "soft" }, what)))));
  }

  function drawAttempt(start) {
    const phone = h("input", { type: "text", value: start.phone, placeholder: "15551234567", readonly: !start.rights.includes("lead"), "aria-label": "From which phone", inputmode: "tel" });
    const texts = h("textarea", { "aria-label": "What it texts", placeholder: "menu" });
    const out = h("div", { "aria-live": "polite" });
    const go = h("button", { class: "main", type: "submit" }, "Try");
    const form = h("form", { class: "try" }, h("label", {}, h("span", {}, "From"), phone), h("label", {}, h("span", {}, "Text, a line for each"), texts), go);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      go.disabled = true;
      try {
        const turns = await ask_("converse", { phone: phone.value, texts: texts.value || "menu" });
        out.replaceChildren(...turns.flatMap((turn) => [h("div", { class: "bubble in" }, turn.text), ...turn.out.map((one) => h("div", { class: "bubble" }, one.body, h("small", { class: "soft" }, ` to ${one.to}, ${one.parts} SMS`))), ...(turn.out.length ? [] : [h("p", { class: "soft" }, "No answer.")])]), h("p", { class: "soft" }, "A rehearsal: nothing was sent, and nothing has changed. CODE stands for a code that an answer showed."));
      } catch (problem) { out.replaceChildren(says("bad", problem.message)); }
      finally { go.disabled = false; }
    });
    attempt.replaceChildren(h("h3", {}, "Try the bot"), h("p", { class: "soft" }, "What it would answer to a text. Nothing is sent."), form, out);
  }

  ask_("start").then((start) => { drawWell(start); drawLinks(start); drawAttempt(start); }).catch((problem) => root.append(says("bad", problem.message)));
  return end;
}

export default { render };
