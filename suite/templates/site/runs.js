// What the pages of runs share: finding and loading a run of this site, its charts, its numbers as text.
(function () {
  "use strict";
  const steppe = window.steppe;
  const h = steppe.element;

  // Numbers as the tables have them.
  const number = function (value) {
    if (value === null || value === undefined || value === "") return "-";
    if (typeof value !== "number") return String(value);
    if (Number.isInteger(value)) return Math.abs(value) < 1e4 ? String(value) : value.toLocaleString("en");
    return String(Number(value.toPrecision(6)));
  };

  // Nested data as lines [path, value]; lists stand on one line.
  const flat = function (value, path = []) {
    if (value === null || typeof value !== "object") return [[path, value]];
    if (Array.isArray(value)) return [[path, value.map(number).join(", ")]];
    return Object.entries(value).flatMap(([key, inner]) => flat(inner, [...path, key]));
  };
  // What this site knows of its runs, by id.
  const listed = steppe.known || { runs: [], pages: [], optimizers: [] };
  if (!steppe.known || !steppe.themes || !steppe.runCharts) steppe.missing();
  const known = new Map(listed.runs.map(function ([id, page, optimizer, seed, epochs, failed, score]) {
    const [title, href] = listed.pages[page] || ["in no table", null];
    return [id, { id, page, title, href, at: optimizer, optimizer: listed.optimizers[optimizer] || id, seed, epochs, failed: Boolean(failed), score }];
  }));
  // Without that list, of a site that was copied in part, whatever looks like a run is looked for.
  const find = function (id) {
    if (steppe.known || !/^[0-9a-f]{16}$/.test(id || "")) return known.get(id);
    return { id, page: -1, title: "a task", href: null, at: -1, optimizer: id, seed: "?", failed: false };
  };
  const load = function (id) {
    return new Promise(function (resolve, reject) {
      if (!find(id)) return reject(new Error("unknown"));
      const script = h("script", { src: `data/runs/${id}.js` });
      script.onload = () => (steppe[`run_${id}`] ? resolve(steppe[`run_${id}`]) : reject(new Error("damaged")));
      script.onerror = () => reject(new Error("missing"));
      document.head.append(script);
    });
  };

  // What a run is called; the record knows where the list does not.
  const told = function (item, data) {
    if (steppe.known) return item;
    const { task, optimizer, seed } = data.spec;
    return { ...item, title: `${task.name} on ${data.spec.data}`, optimizer: optimizer.name, seed, failed: data.status === "failed" };
  };

  // Two runs of different tasks share the charts of the columns that both have.
  const alike = (one, other) => one.title === other.title && !one.profile === !other.profile
    && JSON.stringify(one.columns) === JSON.stringify(other.columns);

  // Charts of one run or of two: the specs of the suite, with the curves of these runs in them.
  const charts = function (runs, heading) {
    const figures = [];
    const [first, ...others] = runs.map(([, data]) => (steppe.runCharts || {})[data.kind] || []);
    const shared = first.filter((chart) => others.every((some) => some.some((other) => alike(chart, other))));
    for (const { title, columns, specs, profile } of shared) {
      const spec = structuredClone(specs[runs.length]);
      const places = (data) => (profile ? ((data.profiles || {})[profile] || {}).x : data.curve.epoch) || [];
      const values = (data, column) => (profile ? ((data.profiles || {})[profile] || {}).y : data.curve[column]) || [];
      const lines = runs.flatMap(([label, data]) => Object.entries(columns).map(([column, [name, scale]]) =>
        [label, name, places(data), values(data, column), scale]));
      lines.forEach(function ([run, column, xs, ys, scale], index) {
        const points = xs.map((x, i) => [x, ys[i]]).filter(([, value]) => typeof value === "number");
        const every = Math.max(1, Math.floor(points.length / 6));
        const line = runs.length > 1 ? `${run}, ${column}` : column;
        const begin = (index * Math.max(1, Math.floor(every / 6))) % every;
        points.forEach(([x, value], i) => spec.data.values.push({ x, mean: scale * value, line, run, column, index, symbol: i % every === begin }));
      });
      if (!spec.data.values.length) continue;
      for (const layer of spec.layer) {
        for (const axis of [layer.encoding.x, layer.encoding.y]) axis.scale = { zero: false, nice: axis === layer.encoding.y };
      }
      const name = runs.map(([, data]) => data.id).join(" ");
      spec.usermeta = { saved: { text: `${title}: ${heading[0]}`, subtitle: heading.slice(1) } };
      figures.push(steppe.figure(title, runs.length > 1 ? `${title} of both runs.`
        : `${title} of the run; the numbers stand in a table on this page.`, spec, `${heading[0]} ${name} ${title}`.toLowerCase()));
    }
    return figures;
  };

  // The selects that pick a run: first its task, then the run among those of its optimizers.
  const select = function (label, chosen, except = null) {
    const task = h("select", null, listed.pages.map(([title], at) => h("option", { value: String(at) }, title)));
    const run = h("select", { "data-run": "" });
    const fill = function () {
      const mine = Array.from(known.values()).filter((item) => item.page === Number(task.value) && item.id !== except)
        .sort((a, b) => a.at - b.at || a.seed - b.seed || a.epochs - b.epochs);
      const names = [...new Set(mine.map((item) => item.optimizer))];
      run.replaceChildren(h("option", { value: "" }, "choose a run"), ...names.map((name) => h("optgroup", { label: name },
        mine.filter((item) => item.optimizer === name).map((item) =>
          h("option", { value: item.id }, `${name}, seed ${item.seed}${item.failed ? ", failed" : `, ${item.score}`}`)))));
    };
    if (chosen && chosen.page >= 0) task.value = String(chosen.page);
    fill();
    task.addEventListener("change", fill);
    return { task, run, element: h("fieldset", null, h("legend", null, label),
      h("label", null, h("span", null, "Task"), task), h("label", null, h("span", null, "Run"), run)) };
  };

  Object.assign(steppe, { find, told, load, charts, flat, number, pickRun: select });
})();
