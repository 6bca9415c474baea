// Shared by all pages: the theme button, sorting and filtering of tables, building elements from text.
(function () {
  "use strict";
  const steppe = (window.steppe = window.steppe || {});
  const root = document.documentElement;

  // Elements contain data only as text: nothing here parses HTML from a string.
  steppe.element = function (name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return made;
  };

  // Warns once that files are missing, in an incomplete copy of the site.
  steppe.missing = function () {
    if (document.getElementById("missing")) return;
    document.getElementById("main").prepend(steppe.element("p", { id: "missing", class: "notice", role: "status" },
      "Some files of the site are missing: copy its whole folder."));
  };

  // A table takes keyboard focus only if it scrolls.
  const overflow = new ResizeObserver(function (entries) {
    for (const region of new Set(entries.map((entry) => entry.target.closest(".scroll")))) {
      if (!region) continue;
      if (region.scrollWidth > region.clientWidth) region.tabIndex = 0;
      else region.removeAttribute("tabindex");
    }
  });
  steppe.scrolls = function (place) {
    for (const region of place.querySelectorAll(".scroll")) {
      overflow.observe(region);
      overflow.observe(region.firstElementChild);
    }
  };
  steppe.scrolls(document);

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
      } catch (error) { /* storage refused: the choice holds for this page only */ }
      themed();
    });
  }
  system.addEventListener("change", themed);
  themed();

  // Sorts by data-v, which for names is their rank; missing values come last in both directions.
  const value = (row, column) => (row.cells[column].dataset.v === undefined ? null : Number(row.cells[column].dataset.v));
  const sort = function (head, direction) {
    const table = head.closest("table");
    const column = head.cellIndex;
    const sign = direction === "ascending" ? 1 : -1;
    const keyed = Array.from(table.tBodies[0].rows, (row) => ({ row, key: value(row, column), name: value(row, 0) }));
    keyed.sort(function (a, b) {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.name - b.name;
      return sign * (a.key - b.key) || a.name - b.name;
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
    let without = 0;
    for (const group of document.querySelectorAll(".group")) {
      const whole = ["task", "tier", "protocol"].every((key) => passes(group, key));
      let any = false;
      without += whole && !group.querySelector(`.view[data-view="${view}"]`);
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
    const absent = document.getElementById("absent");
    absent.hidden = !without;
    absent.textContent = `${without} task${without === 1 ? " has" : "s have"} no table at equal ${view}.`;
    document.getElementById("count").textContent =
      `${tables} table${tables === 1 ? "" : "s"}, ${rows} row${rows === 1 ? "" : "s"}`;
  };
  // The filters are kept in the address: they survive reloads and navigation, and can be shared.
  const keep = function () {
    const given = new URLSearchParams();
    for (const [key, value] of new FormData(filters)) {
      if (value && !(key === "view" && value === first)) given.set(key, value);
    }
    const query = given.toString();
    try {
      window.history.replaceState(null, "", `${window.location.pathname}${query && "?"}${query}${window.location.hash}`);
    } catch (error) { /* some browsers refuse this for pages opened from disk: the choice holds until the page closes */ }
    filter();
  };
  const first = root.dataset.view;
  if (filters) {
    for (const [key, value] of new URLSearchParams(window.location.search)) {
      const field = filters.elements.namedItem(key);
      const options = field instanceof HTMLSelectElement ? Array.from(field.options) : key === "view" ? Array.from(field || []) : [];
      if (options.some((option) => option.value === value)) field.value = value;
    }
    filter();
    filters.addEventListener("change", keep);
    filters.addEventListener("reset", () => window.setTimeout(keep));
    filters.addEventListener("submit", (event) => event.preventDefault());
    window.addEventListener("pageshow", filter); // browsers restore earlier choices
  }

  // Opens all details while printing.
  let closed = [];
  window.addEventListener("beforeprint", function () {
    closed = Array.from(document.querySelectorAll("details:not([open])"));
    for (const details of closed) details.open = true;
  });
  window.addEventListener("afterprint", function () {
    for (const details of closed) details.open = false;
  });
})();
