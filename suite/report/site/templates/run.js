// The page of one run: run.html?id=RUN. Shows data only as text and loads only runs of this site.
(function () {
  "use strict";
  const steppe = window.steppe;
  const h = steppe.element;
  const { number, flat } = steppe;

  const tree = function (title, value) {
    const lines = flat(value).filter(([path]) => path.length);
    if (!lines.length) return null;
    const id = `s-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
    const rows = lines.map(([path, inner]) =>
      h("tr", null, h("th", { scope: "row" }, path.join(" · ").replaceAll("_", " ")), h("td", null, number(inner))));
    return h("section", { "aria-labelledby": id }, h("h2", { id }, title), h("table", { class: "tree" }, h("tbody", null, rows)));
  };

  // Columns [name, numbers] as a table; the first column is the place of the values in the others.
  const table = function (title, columns) {
    const [[along, places], ...rest] = columns;
    return h("details", { class: "more" }, h("summary", null, title),
      h("div", { class: "scroll", role: "region", "aria-label": title, tabindex: "0" },
        h("table", { class: "board" },
          h("thead", null, h("tr", null, [along, ...rest.map(([name]) => name)].map((name) => h("th", { scope: "col", class: "num" }, name.replaceAll("_", " "))))),
          h("tbody", null, places.map((place, i) => h("tr", null, h("th", { scope: "row", class: "num" }, number(place)),
            rest.map(([, values]) => h("td", { class: "num" }, number(values[i])))))))));
  };
  const numbers = function (data) {
    const { epoch = [], ...rest } = data.curve;
    const profiles = Object.entries(data.profiles || {}).map(([name, { x, y }]) => table(`The profile as numbers: ${name.replaceAll("_", " ")}`, [["place", x], ["value", y]]));
    return [...(epoch.length ? [table("The curves as numbers", [["epoch", epoch], ...Object.entries(rest)])] : []), ...profiles];
  };

  const facts = (pairs) => h("dl", { class: "facts" },
    pairs.filter((pair) => pair).map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));

  const measures = function (data) {
    const found = Object.entries((data.sharpness || {}).measures || {});
    if (!found.length) return null;
    const line = ([name, measure]) => h("tr", null, h("th", { scope: "row" }, h("span", { class: "label" }, name)),
      ...["value", "se_probes", "se_examples", "n"].map((key) => h("td", { class: "num" }, number(measure[key]))),
      h("td", null, `${measure.reason || measure.estimator} (version ${measure.version})`));
    return h("section", { "aria-labelledby": "s-measures" }, h("h2", { id: "s-measures" }, "Sharpness"),
      h("p", { class: "conditions" }, `Training loss ${number(data.sharpness.metrics.loss)} on the same examples.`),
      h("div", { class: "scroll", role: "region", "aria-labelledby": "s-measures", tabindex: "0" },
        h("table", { class: "board" },
          h("thead", null, h("tr", null, h("th", { scope: "col" }, "Measure"),
            ["Value", "Error over probes", "Error over examples", "Examples"].map((name) => h("th", { scope: "col", class: "num" }, name)),
            h("th", { scope: "col" }, "Estimator"))),
          h("tbody", null, found.map(line)))));
  };

  const command = (text) => h("section", { "aria-labelledby": "s-command" }, h("h2", { id: "s-command" }, "The exact command"),
    h("pre", { tabindex: "0", "aria-label": "The exact command" }, h("code", null, text)));

  const events = function (data) {
    if (!data.events.length) return null;
    const names = ["time", "attempt", "event", "why", "status", "step"].filter((name) => data.events.some((event) => name in event));
    return h("section", { "aria-labelledby": "s-events" }, h("h2", { id: "s-events" }, "Events"),
      h("div", { class: "scroll", role: "region", "aria-labelledby": "s-events", tabindex: "0" },
        h("table", { class: "board" },
          h("thead", null, h("tr", null, names.map((name) => h("th", { scope: "col" }, name)))),
          h("tbody", null, data.events.map((event) => h("tr", null, names.map((name) => h("td", null, event[name] === undefined ? "" : number(event[name])))))))));
  };

  const place = document.getElementById("run");
  const refuse = function (...words) {
    place.replaceChildren(h("p", { class: "notice" }, ...words, " ", h("a", { href: "index.html" }, "To the leaderboard"), "."));
  };
  // Why there is no curve.
  const without = function (item, data) {
    if (item.failed && data.stored) return "It failed before an epoch was recorded: there are no learning curves.";
    return "This record came without its learning curves: they stay in the store where the run was made, in the run's folder. The command below makes run and curves again.";
  };
  const show = function (found, data) {
    const item = steppe.told(found, data);
    const title = `${item.optimizer}, seed ${item.seed}`;
    document.title = `${title.slice(0, 90)} · Steppe`;
    document.getElementById("title").replaceChildren(h("span", { class: "label" }, title),
      h("span", { class: item.failed ? "state bad" : "state" }, item.failed ? "✕ failed" : "completed"));
    document.getElementById("crumb").replaceChildren(item.href ? h("a", { href: item.href }, item.title) : item.title);
    const cost = data.cost || {};
    const figures = steppe.charts([["", data]], [title, item.title]);
    const tables = numbers(data);
    const entry = (ref) => ({ name: ref.name, version: ref.version, ...(ref.plugin_source ? { "plugin source": ref.plugin_source } : {}), ...ref.params });
    const { task, optimizer, ...rest } = data.spec;
    const { versions = {}, hardware = {}, origin = {}, ...further } = data.provenance;
    const other = steppe.pickRun("Compare with another run", item, item.id);
    other.element.append(h("button", { type: "submit" }, "Compare"));
    const compare = h("form", { class: "pick", "aria-label": "Compare with another run" }, other.element);
    compare.addEventListener("submit", function (event) {
      event.preventDefault();
      if (other.run.value) window.location.href = `compare.html?a=${encodeURIComponent(item.id)}&b=${encodeURIComponent(other.run.value)}`;
      else other.run.focus();
    });
    place.replaceChildren(...[
      h("p", { class: "conditions" }, `Run ${item.id} of ${item.title}`),
      item.failed ? h("p", { class: "notice" }, h("strong", null, "This run failed. "),
        Object.entries(data.failure || {}).map(([key, value]) => `${key}: ${number(value)}`).join("; ")) : null,
      facts([...data.shown.map(([words, text]) => [words[0].toUpperCase() + words.slice(1), text]),
        ["Sample-gradients", number(cost.sample_gradients)], ["Train s", number(cost.train_s)]]),
      figures.length || tables.length ? h("section", { "aria-labelledby": "s-curves" }, h("h2", { id: "s-curves" }, "Curves"), h("div", { class: "plots" }, figures), tables)
        : null,
      data.curve.epoch ? null : h("p", { class: "notice" }, without(item, data)),
      command(data.command),
      measures(data),
      h("div", { class: "pairs" }, 
        tree("Task", entry(task)), tree("Optimizer", entry(optimizer)), tree("Spec", rest), tree("Results", data.results || {}), tree("Facts", data.facts || {}), tree("Cost", cost),
        tree("Perturbation cosine", data.perturbation_cosine || {}),
        tree("Provenance", { ...origin, ...further, data: data.data, "source of": data.sources }), tree("Versions", versions), tree("Hardware", hardware)),
      events(data),
      steppe.known ? compare : null,
    ].filter((part) => part));
    steppe.scrolls(place);
    document.getElementById("said").textContent = `The run is shown: ${title}.`;
  };
  const id = new URLSearchParams(window.location.search).get("id");
  const item = steppe.find(id);
  if (!id) refuse("No run given: open it from the page of its task.");
  else if (!item) refuse("This site has no such run.");
  else steppe.load(id).then((data) => show(item, data), () => refuse(`The file data/runs/${id}.js is missing or damaged: copy the whole folder of the site.`));
})();
