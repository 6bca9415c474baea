// Shared by the pages of runs: finding and loading a run of this site, its charts, numbers as text.
(function () {
  "use strict";
  const steppe = window.steppe;
  const h = steppe.element;

  // Formats a number as in tables.
  const number = function (value) {
    if (value === null || value === undefined || value === "") return "-";
    if (typeof value !== "number") return String(value);
    if (Number.isInteger(value)) return Math.abs(value) < 1e4 ? String(value) : value.toLocaleString("en");
    return String(Number(value.toPrecision(6)));
  };

  // Flattens nested data to lines [path, value]; a list is one line.
  const flat = function (value, path = []) {
    if (value === null || typeof value !== "object") return [[path, value]];
    if (Array.isArray(value)) return [[path, value.map(number).join(", ")]];
    return Object.entries(value).flatMap(([key, inner]) => flat(inner, [...path, key]));
  };
  // The runs of this site, by id.
  const listed = steppe.known || { runs: [], pages: [], optimizers: [] };
  if (!steppe.known || !steppe.themes || !steppe.runCharts) steppe.missing();
  const known = new Map(listed.runs.map(function ([id, page, optimizer, seed, epochs, failed, score]) {
    const [title, href] = listed.pages[page] || ["in no table", null];
    return [id, { id, page, title, href, at: optimizer, optimizer: listed.optimizers[optimizer] || id, seed, epochs, failed: Boolean(failed), score }];
  }));
  // Without the list, in an incomplete copy of a site, any id that looks like a run is tried.
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

  // Completes the names of a run from its record if the list is missing.
  const told = function (item, data) {
    if (steppe.known) return item;
    const { task, optimizer, seed } = data.spec;
    return { ...item, title: `${task.name} on ${data.spec.data}`, optimizer: optimizer.name, seed, failed: data.status === "failed" };
  };

  // Runs of two tasks share a chart if it has the same title and scale and at least one common column.
  const alike = (one, other) => one.title === other.title && !one.profile === !other.profile
    && ["log", "floor", "factor"].every((key) => one[key] === other[key])
    && Object.entries(one.columns).some(([column, name]) => other.columns[column] === name);
  const fuller = (one, other) => (Object.keys(other.columns).length > Object.keys(one.columns).length ? other : one);

  // As `log_ticks` of suite/report/charts/scales.py: powers of ten if there are at least three.
  const logTicks = function (low, high) {
    const [first, last] = [Math.ceil(Math.log10(low)), Math.floor(Math.log10(high))];
    const ticks = { format: low >= 1e-4 && high < 1e6 ? "~g" : "~e", tickCount: 6 };
    const step = Math.floor((last - first) / 7) + 1;
    if (last - first > 1) ticks.values = Array.from({ length: Math.floor((last - first) / step) + 1 }, (_, i) => Number(`1e${first + i * step}`));
    return ticks;
  };

  // Charts of one or two runs: the prepared specs, filled with the curves of these runs.
  const charts = function (runs, heading) {
    const figures = [];
    const [first, ...others] = runs.map(([, data]) => (steppe.runCharts || {})[data.kind] || []);
    const found = first.map((chart) => [chart, ...others.map((some) => some.find((other) => alike(chart, other)))]);
    for (const mine of found.filter((some) => some.every(Boolean))) {
      const { title, columns, specs, profile, log, floor, factor } = mine.reduce(fuller);
      const spec = structuredClone(specs[runs.length]);
      const part = (data) => (data.profiles || {})[profile] || {};
      const shown = (value) => factor * (floor === null ? value : Math.max(value, floor));
      let index = 0;
      for (const [label, data] of runs) {
        for (const [key, column] of Object.entries(columns)) {
          const [xs, ys] = profile ? [part(data).x || [], part(data).y || []] : [data.curve.epoch || [], data.curve[key] || []];
          const points = xs.map((x, i) => [x, ys[i]]).filter(([, value]) => typeof value === "number");
          const every = Math.max(1, Math.floor(points.length / 6));
          const begin = (index * Math.max(1, Math.floor(every / 6))) % every;
          const look = { line: runs.length > 1 ? `${label}, ${column}` : column, run: label, column, index };
          points.forEach(([x, value], i) => spec.data.values.push({ x, mean: shown(value), ...look, symbol: i % every === begin }));
          index += 1;
        }
      }
      if (!spec.data.values.length) continue;
      const heights = spec.data.values.map((value) => value.mean);
      const [low, high] = [Math.min(...heights), Math.max(...heights)];
      // An axis with a single value needs a margin.
      const room = log ? [low / 2, low * 2] : [low - (0.1 * Math.abs(low) || 1), low + (0.1 * Math.abs(low) || 1)];
      const single = low === high ? { domain: room } : {};
      for (const { encoding } of spec.layer) {
        encoding.x.scale = { zero: false, nice: false };
        encoding.y.scale = { ...(log ? { type: "log", nice: false } : { zero: false, nice: true }), ...single };
        if (log) encoding.y.axis = logTicks(low, high);
      }
      const name = runs.map(([, data]) => data.id).join(" ");
      spec.usermeta = { saved: { text: `${title}: ${heading[0]}`, subtitle: heading.slice(1) } };
      figures.push(steppe.figure(title, runs.length > 1 ? `${title} of both runs.`
        : `${title} of the run; the numbers stand in a table on this page.`, spec, `${heading[0]} ${name} ${title}`.toLowerCase()));
    }
    return figures;
  };

  // Two selects to pick a run: its task, then the run, grouped by optimizer.
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
