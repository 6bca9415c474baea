// The comparison of two runs: compare.html?a=RUN&b=RUN.
(function () {
  "use strict";
  const steppe = window.steppe;
  const h = steppe.element;
  const given = new URLSearchParams(window.location.search);
  const chosen = { a: steppe.find(given.get("a")), b: steppe.find(given.get("b")) };
  const place = document.getElementById("comparison");
  const said = document.getElementById("said");

  const table = function (title, parts, all) {
    const lines = new Map();
    parts.forEach(function (part, at) {
      for (const [path, value] of steppe.flat(part)) {
        const key = path.join(" · ");
        if (!lines.has(key)) lines.set(key, ["-", "-"]);
        lines.get(key)[at] = value === null || value === undefined ? "-" : typeof value === "number" ? steppe.number(value) : String(value);
      }
    });
    const rows = Array.from(lines).filter(([, [a, b]]) => all || a !== b);
    const id = `s-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
    return h("section", { "aria-labelledby": id }, h("h2", { id }, title),
      rows.length ? h("div", { class: "scroll", role: "region", "aria-labelledby": id, tabindex: "0" }, h("table", { class: "board both" },
        h("thead", null, h("tr", null, h("th", { scope: "col" }, "Field"), h("th", { scope: "col" }, "A"), h("th", { scope: "col" }, "B"))),
        h("tbody", null, rows.map(([key, [a, b]]) => h("tr", a === b || all ? null : { class: "differs" },
          h("th", { scope: "row" }, key.replaceAll("_", " ")), h("td", null, a), h("td", null, b))))))
        : h("p", { class: "conditions" }, "No difference."));
  };
  const results = (data) => ({ ...Object.fromEntries(data.shown), "loss on the measured subset": ((data.sharpness || {}).metrics || {}).loss,
    ...Object.fromEntries(Object.entries((data.sharpness || {}).measures || {}).map(([name, found]) => [name, found.value])),
    sample_gradients: (data.cost || {}).sample_gradients, train_s: (data.cost || {}).train_s });

  const without = (a, b) => (a.stored && b.stored ? "Neither run recorded an epoch."
    : "Neither record contains learning curves: they stay in the store where the runs were made.");
  const label = (item) => `${item.optimizer}, seed ${item.seed}`;
  const card = (key, item) => h("p", null, h("span", { class: "key" }, key),
    h("a", { href: `run.html?id=${encodeURIComponent(item.id)}` }, label(item)), ` of ${item.title}`);
  const compared = function ([a, b], items) {
    const heads = items.map((item, at) => `${"AB"[at]}: ${label(item)}, ${item.title}`);
    const figures = steppe.charts([["A", a], ["B", b]], ["two runs", ...heads]);
    document.title = "Two runs compared · Steppe";
    place.replaceChildren(
      h("div", null, card("A", items[0]), card("B", items[1])),
      table("What differs in the spec", [a.spec, b.spec], false),
      table("Results", [results(a), results(b)], true),
      figures.length ? h("section", { "aria-labelledby": "s-curves" }, h("h2", { id: "s-curves" }, "Curves"), h("div", { class: "plots" }, figures))
        : h("p", { class: "notice" }, without(a, b)),
      table("What differs in provenance", [a.provenance, b.provenance], false),
    );
    steppe.scrolls(place);
    said.textContent = `Compared are ${items.map(label).join(" and ")}.`;
  };

  let turn = 0;
  const show = function () {
    const mine = (turn += 1);
    if (!chosen.a || !chosen.b) {
      const unknown = ["a", "b"].some((key) => given.get(key) && !chosen[key]);
      place.replaceChildren(h("p", { class: unknown ? "notice" : "conditions" }, unknown ? "This site has no such run; pick two above." : "Pick two runs."));
      return;
    }
    const items = [chosen.a, chosen.b];
    Promise.all(items.map((item) => steppe.load(item.id))).then(function (data) {
      if (mine === turn) compared(data, items.map((item, at) => steppe.told(item, data[at])));
    }, () => place.replaceChildren(h("p", { class: "notice" }, "The data of a run are missing: copy the whole folder of the site.")));
  };

  for (const key of ["a", "b"]) {
    const picker = steppe.pickRun(`Run ${key.toUpperCase()}`, chosen[key] || chosen.a || chosen.b);
    if (chosen[key]) picker.run.value = chosen[key].id;
    picker.run.addEventListener("change", function () {
      if (!picker.run.value) return;
      chosen[key] = steppe.find(picker.run.value);
      given.set(key, picker.run.value);
      try {
        window.history.replaceState(null, "", `?${given}`);
      } catch (error) { /* some browsers refuse this for pages opened from disk */ }
      show();
    });
    if (steppe.known) document.getElementById("pick").append(picker.element);
  }
  document.getElementById("pick").addEventListener("submit", (event) => event.preventDefault());
  show();
})();
