// Two runs beside each other: compare.html?a=RUN&b=RUN.
(function () {
  "use strict";
  const steppe = window.steppe;
  const h = steppe.element;
  const given = new URLSearchParams(window.location.search);
  const chosen = { a: steppe.byId.get(given.get("a")), b: steppe.byId.get(given.get("b")) };
  const place = document.getElementById("comparison");

  const go = function (key, id) {
    const next = new URLSearchParams();
    for (const name of ["a", "b"]) {
      const run = name === key ? id : chosen[name] && chosen[name].id;
      if (run) next.set(name, run);
    }
    window.location.search = next.toString();
  };
  for (const key of ["a", "b"]) {
    const picker = steppe.pickRun(`Run ${key.toUpperCase()}`, chosen[key] || chosen.a || chosen.b, (id) => go(key, id));
    if (chosen[key]) picker.run.value = chosen[key].id;
    document.getElementById("pick").append(picker.element);
  }
  document.getElementById("pick").addEventListener("submit", (event) => event.preventDefault());

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
  const results = (data) => ({ ...data.results, train_loss: (data.sharpness || {}).train_loss,
    ...Object.fromEntries(Object.entries((data.sharpness || {}).measures || {}).map(([name, found]) => [name, found.value])),
    sample_gradients: (data.cost || {}).sample_gradients, train_s: (data.cost || {}).train_s });

  if (!chosen.a || !chosen.b) {
    const unknown = ["a", "b"].some((key) => given.get(key) && !chosen[key]);
    place.append(h("p", { class: unknown ? "notice" : "conditions" }, unknown ? "This site has no such run; pick two above." : "Pick two runs."));
    return;
  }
  Promise.all([steppe.load(chosen.a.id), steppe.load(chosen.b.id)]).then(function ([a, b]) {
    const label = (item) => `${item.optimizer}, seed ${item.seed}`;
    document.title = "Two runs compared · Steppe";
    const figures = steppe.charts([["A", a], ["B", b]]);
    const card = (key, item) => h("p", null, h("span", { class: "key" }, key),
      h("a", { href: `run.html?id=${encodeURIComponent(item.id)}` }, label(item)), ` of ${item.title}`);
    place.replaceChildren(...[
      h("div", null, card("A", chosen.a), card("B", chosen.b)),
      table("What differs in the spec", [a.spec, b.spec], false),
      table("Results", [results(a), results(b)], true),
      figures.length ? h("section", { "aria-labelledby": "s-curves" }, h("h2", { id: "s-curves" }, "Curves"), h("div", { class: "plots" }, figures))
        : h("p", { class: "notice" }, "Neither record brought its learning curves: they stay in the store where the runs were made."),
      table("What differs in provenance", [a.provenance, b.provenance], false),
    ]);
  }, () => place.append(h("p", { class: "notice" }, "The data of a run are missing: copy the whole folder of the site.")));
})();
