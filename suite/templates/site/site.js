// What every page shares: the theme button; sorting and filtering tables; building elements from text.
(function () {
  "use strict";
  const steppe = (window.steppe = window.steppe || {});
  const root = document.documentElement;

  // Elements hold data as text only: nothing here reads HTML out of a string.
  steppe.element = function (name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return made;
  };

  // Theme
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  steppe.dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const button = document.getElementById("theme");
  const themed = function () {
    if (button) button.setAttribute("aria-pressed", String(steppe.dark()));
    document.dispatchEvent(new Event("steppe-theme"));
  };
  if (button) {
    button.addEventListener("click", function () {
      root.dataset.theme = steppe.dark() ? "light" : "dark";
      try {
        window.localStorage.setItem("steppe-theme", root.dataset.theme);
      } catch (error) { /* kept for this page only */ }
      themed();
    });
  }
  system.addEventListener("change", themed);
  themed();

  // Sorting: a cell's data-v if it has one, else its text; what is missing goes last either way.
  const collator = new Intl.Collator("en", { numeric: true });
  const value = function (row, column) {
    const cell = row.cells[column];
    if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
    return cell.tagName === "TH" ? cell.textContent : null;
  };
  const sort = function (head, direction) {
    const table = head.closest("table");
    const column = head.cellIndex;
    const sign = direction === "ascending" ? 1 : -1;
    const keyed = Array.from(table.tBodies[0].rows, (row) => ({ row, key: value(row, column), name: row.cells[0].textContent }));
    keyed.sort(function (a, b) {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || collator.compare(a.name, b.name);
      const order = typeof a.key === "number" ? a.key - b.key : collator.compare(a.key, b.key);
      return sign * order || collator.compare(a.name, b.name);
    });
    table.tBodies[0].append(...keyed.map((item) => item.row));
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", direction);
  };
  document.addEventListener("click", function (event) {
    const pressed = event.target instanceof Element && event.target.closest("button.sort");
    if (!pressed) return;
    const head = pressed.closest("th");
    const opposite = { ascending: "descending", descending: "ascending" };
    sort(head, opposite[head.getAttribute("aria-sort")] || pressed.dataset.first);
  });

  // Filters of the leaderboard
  const filters = document.getElementById("filters");
  const filter = function () {
    const chosen = new FormData(filters);
    const view = chosen.get("view") || root.dataset.view;
    root.dataset.view = view;
    const passes = (element, key) => !chosen.get(key) || element.dataset[key] === chosen.get(key);
    let tables = 0;
    let rows = 0;
    for (const group of document.querySelectorAll(".group")) {
      const whole = ["task", "tier", "protocol"].every((key) => passes(group, key));
      let any = false;
      for (const section of group.querySelectorAll(".view")) {
        let left = 0;
        for (const row of section.querySelectorAll("tbody tr")) {
          row.hidden = !passes(row, "optimizer");
          left += !row.hidden;
        }
        section.hidden = !left;
        if (!whole || !left || section.dataset.view !== view) continue;
        any = true;
        tables += 1;
        rows += section.querySelectorAll("table")[0].querySelectorAll("tbody tr:not([hidden])").length;
      }
      group.hidden = !any;
    }
    document.getElementById("none").hidden = tables > 0;
    document.getElementById("count").textContent =
      `${tables} table${tables === 1 ? "" : "s"}, ${rows} row${rows === 1 ? "" : "s"}`;
  };
  if (filters) {
    filters.addEventListener("change", filter);
    filters.addEventListener("reset", () => window.setTimeout(filter));
    filters.addEventListener("submit", (event) => event.preventDefault());
    window.addEventListener("pageshow", filter); // browsers put back what was chosen before
  }

  // On paper nothing can be opened: open everything for as long as it prints.
  let closed = [];
  window.addEventListener("beforeprint", function () {
    closed = Array.from(document.querySelectorAll("details:not([open])"));
    for (const details of closed) details.open = true;
  });
  window.addEventListener("afterprint", function () {
    for (const details of closed) details.open = false;
  });
})();
